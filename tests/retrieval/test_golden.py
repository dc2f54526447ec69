"""Indexes written by every format version that was ever released; none may stop being readable."""

from pathlib import Path

import numpy as np
import pytest

from retrieval import Origin, TitleIndex
from retrieval.backends import BACKENDS
from stores.errors import MismatchError

GOLDEN = Path(__file__).parent / "golden"
IDS = [f"t{(7 * row) % 24:02d}" for row in range(24)]
TITLES = np.sin(np.arange(24 * 4, dtype=np.float64)).reshape(24, 4).astype(np.float32)


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.iterdir()))
@pytest.mark.parametrize("name", list(BACKENDS))
def test_an_index_of_every_version_still_answers(version, name, brute):
    index = TitleIndex.load(GOLDEN / version, name, Origin(space_id="1", artifact="golden"))
    assert index.ids.values.tolist() == IDS
    assert np.array_equal(index.vectors, TITLES)
    queries = np.cos(np.arange(7 * 4, dtype=np.float64)).reshape(7, 4).astype(np.float32)
    found, scores = index.search(queries, 5)
    for i, query in enumerate(queries):
        expected = brute(TITLES, query, 5, IDS, np.ones(24, bool), set())
        assert list(zip(found[i].tolist(), scores[i].tolist(), strict=True)) == expected


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.iterdir()))
def test_it_is_refused_for_another_space_or_artifact_naming_both(version):
    with pytest.raises(MismatchError, match="space 1, asked for was space 2"):
        TitleIndex.load(GOLDEN / version, "flat", Origin(space_id="2"))
    with pytest.raises(MismatchError, match="artifact golden, asked for was artifact other"):
        TitleIndex.load(GOLDEN / version, "flat", Origin(artifact="other"))
