import numpy as np
import pyarrow as pa
import pytest

from embeddings.foundation import evaluate, train_and_evaluate
from embeddings.foundation.baselines import item_knn, popular_7_days, popularity
from embeddings.foundation.evaluation_queries import build_queries, event_counts, last_new_title, truncate_histories
from embeddings.foundation.evaluation_splits import leave_one_out, time_split
from embeddings.foundation.metrics import inner_product_scorer, rank_titles
from stores.errors import UsageError

DAY = 86_400


@pytest.fixture(scope="module")
def random_histories(make):
    """Histories with repeats, of many lengths, over 40 of 50 titles."""
    random = np.random.default_rng(1)
    return make.histories([random.integers(100, 140, n).tolist() for n in random.integers(0, 25, 80)])


@pytest.fixture(scope="module")
def fifty(make):
    return make.catalogue(list(range(100, 150)), ["left", "right"] * 25)


class Planted:
    """Scores titles by a table of its own: the vector of a member is its row number, one-hot."""

    model_id = "planted"

    def __init__(self, table):
        self.table, self.dim = table, table.shape[0]

    def encode_members(self, histories):
        return np.eye(self.dim, dtype=np.float32)[np.asarray(histories["member_id"])]

    def encode_titles(self, titles):
        return self.table[:, np.asarray(titles["title_id"]) - 100].T.astype(np.float32)


def brute_force(histories, table):
    """Leave-one-out HR, NDCG and coverage, the slow way."""
    lists = histories["title_id"].to_pylist()
    questions = []
    for member, titles in enumerate(lists):
        fresh = [i for i, title in enumerate(titles) if title not in titles[:i] and i > 0]
        if fresh:
            questions.append((member, fresh[-1]))
    ends = dict(questions)
    trained = {title for member, titles in enumerate(lists) for title in titles[: ends.get(member, len(titles))]}
    gains, hits, shown = [], [], set()
    for member, end in questions:
        left = sorted(trained - set(lists[member][:end]), key=lambda title: (-table[member, title - 100], title))
        place = left.index(lists[member][end]) if lists[member][end] in left else 99
        hits.append(place < 10)
        gains.append(1 / np.log2(place + 2) if place < 10 else 0)
        shown |= set(left[:10])
    return {"hr@10": np.mean(hits), "ndcg@10": np.mean(gains), "coverage@10": len(shown) / len(trained)}


@pytest.mark.parametrize("ties", [False, True])
def test_leave_one_out_is_the_brute_force_ranking(random_histories, fifty, ties):
    table = np.random.default_rng(2).random((80, 50)).round(1 if ties else 6)
    found = evaluate(random_histories, fifty, Planted(table))
    expected = brute_force(random_histories, table)
    assert found["hr@10"] == pytest.approx(expected["hr@10"])
    assert found["ndcg@10"] == pytest.approx(expected["ndcg@10"])
    if not ties:
        assert found["coverage@10"] == pytest.approx(expected["coverage@10"])


def test_a_perfect_ranker_has_one_and_the_worst_has_zero(random_histories, fifty):
    exam = leave_one_out(random_histories, fifty)
    knowing = np.zeros((80, 50))
    members = np.asarray(exam.queries.histories["member_id"])
    reached = exam.queries.targets >= 0
    titles = np.asarray(exam.title_ids)[exam.queries.targets[reached]]
    knowing[members[reached], titles - 100] = 1.0
    best, worst = (evaluate(random_histories, fifty, Planted(sign * knowing)) for sign in (1, -1))
    assert best["ndcg@10"] == best["hr@10"] == pytest.approx(reached.mean())
    assert worst["ndcg@10"] == worst["hr@10"] == 0.0


def test_a_title_nobody_had_met_is_a_miss(make, fifty):
    histories = make.histories([[100, 101, 102], [101, 100, 149]])
    exam = leave_one_out(histories, fifty)
    assert exam.queries.targets.tolist() == [-1, -1]
    assert evaluate(histories, fifty, Planted(np.ones((2, 50))))["hr@10"] == 0.0


def test_the_training_part_knows_nothing_of_the_test(random_histories, fifty, make):
    exam = leave_one_out(random_histories, fifty)
    lists = exam.train_part["title_id"].to_pylist()
    for member, question in zip(
        exam.queries.histories["member_id"].to_pylist(), range(len(exam.query_positions)), strict=True
    ):
        assert lists[member] == exam.queries.histories["title_id"][question].as_py()
    ids = fifty["title_id"].combine_chunks()
    full = event_counts(random_histories, ids)
    given = fifty.set_column(fifty.schema.get_field_index("plays"), "plays", pa.array(full))
    plays = np.asarray(leave_one_out(random_histories, given).catalogue["plays"])
    np.testing.assert_array_equal(plays, event_counts(exam.train_part, ids))


def test_last_new_is_the_last_title_not_met_before(make, fifty):
    histories = make.histories([[100, 101, 100], [102], [], [103, 103], [104, 105]])
    assert last_new_title(histories, fifty["title_id"].combine_chunks()).tolist() == [1, 7]


def test_a_time_split_learns_from_what_ended_before_the_moment(random_histories, fifty):
    exam = time_split(random_histories, fifty)
    moment = min(
        int(time.timestamp()) for time in pa.compute.list_flatten(exam.queries.histories["last_time"]).to_pylist()
    )
    latest = pa.compute.max(pa.compute.list_flatten(exam.train_part["last_time"])).as_py().timestamp()
    assert len(exam.query_positions) > 0
    assert latest < exam.queries.times.min()
    assert moment < exam.queries.times.min()


def test_a_stale_history_ends_so_long_before_the_question(random_histories, fifty):
    exam = time_split(random_histories, fifty)
    stale = exam.stale_queries(5 * 3600)
    fresh = exam.queries
    np.testing.assert_array_equal(stale.targets, fresh.targets)
    np.testing.assert_array_equal(stale.seen, fresh.seen)
    lengths = [
        histories["title_id"].combine_chunks().value_lengths().to_numpy()
        for histories in (stale.histories, fresh.histories)
    ]
    np.testing.assert_array_equal(lengths[0], np.maximum(lengths[1] - 4, 0))


def test_a_time_split_reports_staleness_and_slices(random_histories, fifty):
    table = np.random.default_rng(0).random((80, 50))
    found = evaluate(random_histories, fifty, Planted(table), "time-split")
    assert set(found["staleness"]) == {"0", "24", "48"}
    assert set(found["slices"]) == {"cold_titles", "tail_titles", "new_members"}
    assert set(found["baselines"]) == {"popularity", "item_knn", "popular_7_days"}
    assert found["staleness"]["0"]["hr@10"] == found["recall@10"] == found["staleness"]["48"]["hr@10"]


def test_an_unknown_protocol_is_wrong_usage(random_histories, fifty):
    with pytest.raises(UsageError, match="leave-two-out"):
        evaluate(random_histories, fifty, Planted(np.ones((80, 50))), "leave-two-out")


def test_popularity_counts_events(make, fifty):
    histories = make.histories([[100, 101], [101, 102], [101]])
    scores = popularity(histories, fifty["title_id"].combine_chunks())(0, 2)
    assert scores.shape == (2, 50)
    assert scores[0, :4].tolist() == [1, 3, 1, 0]


def test_the_last_week_is_the_week_before_the_day_of_the_question(make, fifty):
    ids = fifty["title_id"].combine_chunks()
    histories = make.histories([[100, 101, 102, 103, 104]], gap=3 * DAY, start=1000 * DAY)
    queries = build_queries(histories, ids, np.array([4]))
    assert popular_7_days(histories, ids, queries)(0, 1)[0, :5].tolist() == [0, 0, 1, 1, 0]


def test_item_knn_is_the_sum_of_cosines(random_histories, fifty):
    ids = fifty["title_id"].combine_chunks()
    queries = leave_one_out(random_histories, fifty).queries
    queries = build_queries(random_histories, ids, last_new_title(random_histories, ids))
    met = np.zeros((80, 50))
    for member, titles in enumerate(random_histories["title_id"].to_pylist()):
        met[member, np.array(titles, int) - 100] = 1
    norms = np.maximum(np.sqrt(met.sum(axis=0)), 1)
    cosine = met.T @ met / norms[:, None] / norms[None, :]
    np.fill_diagonal(cosine, 0)
    seen = [np.unique(queries.seen[a:b]) for a, b in zip(queries.seen_starts, queries.seen_starts[1:], strict=False)]
    expected = np.stack([cosine[titles].sum(axis=0) for titles in seen])
    np.testing.assert_allclose(item_knn(random_histories, ids, queries)(0, len(queries)), expected, atol=1e-5)


def test_cutting_keeps_the_first_tokens_and_their_time(random_histories):
    rows, ends = np.array([3, 3, 5]), np.array([0, 1, 2])
    rows = np.flatnonzero(random_histories["title_id"].combine_chunks().value_lengths().to_numpy() >= 2)[[0, 0, 1]]
    short = truncate_histories(random_histories, rows, ends)
    lists = random_histories["title_id"].to_pylist()
    assert short["title_id"].to_pylist() == [lists[row][:end] for row, end in zip(rows, ends, strict=True)]
    last = [times[-1] if times else None for times in short["last_time"].to_pylist()]
    assert short["event_time"].to_pylist() == last


def test_ranks_do_not_depend_on_how_questions_are_grouped(random_histories, fifty, monkeypatch):
    exam = leave_one_out(random_histories, fifty)
    random = np.random.default_rng(0)
    members, titles = (
        random.random((len(exam.query_positions), 4), np.float32),
        random.random((len(exam.candidates), 4), np.float32),
    )
    whole = rank_titles(inner_product_scorer(members, titles), exam.queries, len(titles))
    monkeypatch.setattr("embeddings.foundation.metrics._MAX_SCORE_CELLS", 3 * len(titles))
    np.testing.assert_array_equal(
        rank_titles(inner_product_scorer(members, titles), exam.queries, len(titles)).ranks, whole.ranks
    )


@pytest.mark.parametrize("protocol", ["leave-one-out", "time-split"])
def test_training_for_a_protocol_reports_both(histories, catalogue, make, protocol):
    found = train_and_evaluate(histories, catalogue, make.config(max_steps=20), 0, protocol)
    assert {"hr@10", "ndcg@10", "coverage@10", "baselines", "training"} <= set(found)
    assert set(found["baselines"]["popularity"]) == {"hr@10", "ndcg@10", "coverage@10"}
