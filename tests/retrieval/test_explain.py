import pytest

from retrieval import RetrievalConfig
from retrieval.explain import explain_choice, read_metadata, slice_rows, trial_rows
from retrieval.index_metadata import StoredFile, StoredIndex, Trial
from retrieval.job import run
from retrieval.recall import Recall
from stores.errors import NotFoundError


def recall(value):
    return Recall(k=10, queries=100, value=value, low=value - 0.01, high=value)


def index(backend, tried):
    made = [
        Trial(
            backend=name,
            search_effort=2,
            titles=9000,
            recall=recall(0.99),
            queries_per_second=10.0,
            build_seconds=1.0,
            chosen=name == backend,
        )
        for name in tried
    ]
    file = StoredFile(name="a.faiss", bytes=1, sha256="0")
    return StoredIndex(
        metric="ip", dim=4, titles=9000, backend=backend, search_effort=2, min_filter_share=0.5, max_exact_k=50,
        recall=recall(0.99),
        queries_per_second=10.0, trials=made, file=file,
    )  # fmt: skip


def test_the_reason_is_what_was_measured():
    chosen = explain_choice(index("ivf_routed", ["hnsw", "flat", "ivf_routed"]))
    assert "ivf_routed with search effort 2: the fastest of 3 types" in chosen
    assert "0.9900 (0.9800 to 0.9900)" in chosen
    assert "less than 50% and more than 50 titles at once are searched exactly" in chosen
    assert "few enough" in explain_choice(index("flat", ["flat"]))
    assert "faster than comparing all 9,000" in explain_choice(index("flat", ["hnsw", "flat"]))


def test_every_trial_is_a_row_and_one_is_chosen():
    rows = trial_rows(index("hnsw", ["hnsw", "flat"]))
    assert [row["chosen"] for row in rows] == ["<--", ""]
    assert all(set(row) == set(rows[0]) for row in rows)


def test_a_release_explains_itself(make_release, rng):
    release = make_release(rng.normal(size=(60, 4)).astype("f"), rng.normal(size=(30, 4)).astype("f"))
    with pytest.raises(NotFoundError, match="has no index"):
        read_metadata(release)
    run(RetrievalConfig(), release)
    card = read_metadata(release)
    assert set(card.indexes) == {"candidates", "similar"}
    for stored in card.indexes.values():
        assert "60 titles are few enough" in explain_choice(stored)
        assert [row["chosen"] for row in trial_rows(stored)] == ["<--"]
        assert {row["queries"] for row in slice_rows(stored)} >= {"all", "filtered"}
