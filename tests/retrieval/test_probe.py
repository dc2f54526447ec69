import numpy as np
import pytest

from retrieval import RetrievalConfig, exact
from retrieval.job import run
from retrieval.release_reader import search_candidates


@pytest.mark.parametrize("text", [False, True])
def test_the_probe_finds_what_an_exact_search_finds(make_release, rng, text):
    titles, members = (rng.normal(size=(count, 6)).astype(np.float32) for count in (40, 9))
    release = make_release(titles, members, text=text)
    run(RetrievalConfig(), release)
    ids, scores = search_candidates(release, members, 5)
    rows, expected = exact.search(titles, members, 5, "ip")
    named = [[f"t{row:04d}" if text else 10 * row for row in found] for found in rows.tolist()]
    assert ids == named
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
