import pytest

from retrieval import RetrievalConfig
from retrieval.card import StoredFile, StoredIndex, Trial
from retrieval.explain import card_of, reason, slices, trials
from retrieval.job import run
from retrieval.recall import Recall
from stores.errors import NotFoundError


def recall(value):
    return Recall(k=10, queries=100, value=value, low=value - 0.01, high=value)


def index(backend, tried):
    made = [
        Trial(
            backend=name,
            effort=2,
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
        metric="ip", dim=4, titles=9000, backend=backend, effort=2, filter_from=0.5, reach=50, recall=recall(0.99),
        queries_per_second=10.0, trials=made, file=file,
    )  # fmt: skip


def test_the_reason_is_what_was_measured():
    chosen = reason(index("ivf_routed", ["hnsw", "flat", "ivf_routed"]))
    assert "ivf_routed with effort 2: the fastest of 3 types" in chosen
    assert "0.9900 (0.9800 to 0.9900)" in chosen
    assert "less than 50% and more than 50 titles at once are searched exactly" in chosen
    assert "few enough" in reason(index("flat", ["flat"]))
    assert "faster than comparing all 9,000" in reason(index("flat", ["hnsw", "flat"]))


def test_every_trial_is_a_row_and_one_is_chosen():
    rows = trials(index("hnsw", ["hnsw", "flat"]))
    assert [row["chosen"] for row in rows] == ["<--", ""]
    assert all(set(row) == set(rows[0]) for row in rows)


def test_a_release_explains_itself(make_release, rng):
    release = make_release(rng.normal(size=(60, 4)).astype("f"), rng.normal(size=(30, 4)).astype("f"))
    with pytest.raises(NotFoundError, match="has no index"):
        card_of(release)
    run(RetrievalConfig(), release)
    card = card_of(release)
    assert set(card.indexes) == {"candidates", "similar"}
    for stored in card.indexes.values():
        assert "60 titles are few enough" in reason(stored)
        assert [row["chosen"] for row in trials(stored)] == ["<--"]
        assert {row["queries"] for row in slices(stored)} >= {"all", "filtered"}
