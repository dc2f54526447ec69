import numpy as np
import pytest

from retrieval import IndexConfig, TitleIndex, exact, gpu
from retrieval.backends import BACKENDS, TrainQueries
from retrieval.engine import Engine
from retrieval.filters import Filter
from retrieval.index import with_gpu_copy
from stores.errors import UsageError


class FirstRows:
    """Stands in for an index on a GPU: ignores every filter, and knows only the first `limit` rows by score."""

    def __init__(self, index, limit):
        self.index, self.limit = index, limit

    def search(self, queries, fetch, nprobe):
        return self.index.search(queries, min(fetch, self.limit))[1]


@pytest.mark.parametrize("limit", [5, 40, 1000])
@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_what_a_gpu_index_ignores_or_cannot_fetch_is_made_good(rng, limit, share):
    titles = np.repeat(rng.normal(size=(500, 6)).astype(np.float32), 2, axis=0)
    queries = rng.normal(size=(30, 6)).astype(np.float32)
    flat = BACKENDS["flat"]
    cpu = Engine.of(flat, flat.build(titles))
    engine = Engine(flat, cpu.index, 0, cpu.titles, FirstRows(cpu.index, limit))
    allowed, gone = rng.random(1000) < share, [rng.integers(0, 1000, i) for i in range(30)]
    found = engine.search(queries, 7, Filter(allowed, gone))
    expected = exact.search(titles, queries, 7, "ip", allowed, gone)
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])


@pytest.mark.skipif(gpu.num_gpus() > 0, reason="this machine has a GPU")
def test_without_a_gpu_everything_stays_on_the_cpu(rng):
    index = TitleIndex.build(np.arange(5), rng.normal(size=(5, 3)), config=IndexConfig(device="auto"))
    assert index.engine.gpu is None
    with pytest.raises(UsageError, match="sees no GPU"):
        gpu.GpuCopy.of(index.engine.index)


@pytest.mark.gpu
@pytest.mark.skipif(gpu.num_gpus() == 0, reason="no GPU: needs a CUDA device and the faiss-gpu build")
@pytest.mark.parametrize("name", ["flat", "ivf_flat", "ivf_routed"])
def test_gpu_and_cpu_agree(rng, name):
    titles = rng.normal(size=(20_000, 32)).astype(np.float32)
    queries = rng.normal(size=(200, 32)).astype(np.float32)
    backend = BACKENDS[name]
    cpu = Engine.of(backend, backend.build(titles, TrainQueries(queries)), 256 if backend.search_efforts else 0)
    engine = with_gpu_copy(cpu, IndexConfig())
    assert engine.gpu is not None
    allowed = rng.random(20_000) < 0.5
    for k in (10, 3000):
        there, here = engine.search(queries, k, Filter(allowed)), cpu.search(queries, k, Filter(allowed))
        assert np.mean(there[0] == here[0]) > (0.999 if name == "flat" else 0.98)
