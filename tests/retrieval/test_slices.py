import numpy as np
import pyarrow as pa

from retrieval import RetrievalConfig, TitleIndex, slices


def test_tail_and_cold_titles_are_looked_at_by_themselves(rng):
    titles, queries = rng.normal(size=(300, 6)).astype(np.float32), rng.normal(size=(80, 6)).astype(np.float32)
    index = TitleIndex.build(np.arange(300), titles)
    plays = pa.table({"plays": pa.array([0] * 40 + list(range(260)), pa.int64())})
    found = slices.measure_slices(index, plays, queries, RetrievalConfig())
    assert set(found) == {"filtered", "tail", "cold"}
    assert all(recall.value == 1.0 for recall in found.values())
    assert found["cold"].queries <= found["tail"].queries <= 80
    unknown = pa.table({"plays": pa.nulls(300, pa.int64())})
    assert set(slices.measure_slices(index, unknown, queries, RetrievalConfig())) == {"filtered"}
