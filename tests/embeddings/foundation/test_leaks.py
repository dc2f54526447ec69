"""What comes later changes nothing: not the training part, not a feature, not a vector, not a figure."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from embeddings.foundation import evaluate, train_and_evaluate
from embeddings.foundation import evaluation as evaluation_module
from embeddings.foundation.evaluation_splits import leave_one_out, split_at, time_split
from embeddings.foundation.point_in_time import WATCH_ACTIONS, plays_of, plays_of_tokens, watch_bits
from embeddings.histories.job import HistoriesConfig, tokenise
from stores.schema import (
    ACTION,
    ACTIONS,
    EVENT_TIME,
    HISTORY_HASH,
    MEMBER_ID,
    TIMESTAMP_TYPE,
    TITLE_ID,
    catalogue_schema,
)

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
DAY = 86_400
SPLIT = int((BEGIN + timedelta(days=40)).timestamp())
MEMBERS, TITLES = 30, 24


def interactions(plays=1):
    """Every member meets a new title every four days for sixty days, plays it and often likes it."""
    random = np.random.default_rng(0)
    rows = []
    for member in range(MEMBERS):
        for step, title in enumerate(random.permutation(TITLES)[:15]):
            at = BEGIN + timedelta(days=4 * step, minutes=member)
            rows += [(member, int(title), at + timedelta(seconds=n), "play") for n in range(plays)]
            rows += [(member, int(title), at + timedelta(minutes=5), "thumb_up")] * int(random.random() < 0.5)
    return rows


def later(rows):
    """Much of what may come after day 40, on titles that each member had met by then, so that no question changes."""
    met = {member: [row[1] for row in rows if row[0] == member and row[2].timestamp() < SPLIT] for member in range(9)}
    added = []
    for member, titles in met.items():
        at = BEGIN + timedelta(days=59, hours=member)
        added += [(member, titles[n % 2], at + timedelta(minutes=n), ACTIONS[n % 4]) for n in range(40)]
    return added


def read(rows, titles=TITLES):
    """Histories, and the catalogue of the snapshot: its plays count everything, its ages end at its last event."""
    names = (MEMBER_ID, TITLE_ID, EVENT_TIME, ACTION)
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    table = table.set_column(2, names[2], table[names[2]].cast(TIMESTAMP_TYPE))
    ids = pa.array(range(titles), pa.int64())
    histories = tokenise(table, pa.table({TITLE_ID: ids}))
    launch = [BEGIN - timedelta(days=100 - 10 * n) for n in range(TITLES)]
    launch += [BEGIN + timedelta(days=400)] * (titles - TITLES)
    end = max(row[2] for row in rows)
    plays = [sum(row[1] == n and row[3] == "play" for row in rows) for n in range(titles)]
    given = {
        TITLE_ID: ids,
        "launch_time": pa.array(launch, TIMESTAMP_TYPE),
        "plays": pa.array(plays, pa.int64()),
        "age_days": pa.array([float((end - one).days) for one in launch]),
        "genres": pa.array([[f"genre {n % 3}"] for n in range(titles)]),
    }
    schema = catalogue_schema(pa.int64())
    arrays = [given.get(field.name, pa.nulls(titles, field.type)) for field in schema]
    return histories, pa.Table.from_arrays(arrays, schema=schema)


BEFORE = read(interactions())
AFTER = read([*interactions(), *later(interactions())], TITLES + 6)


def exam_of(data, protocol):
    return leave_one_out(*data) if protocol == "leave-one-out" else split_at(*data, SPLIT)


def features(exam):
    """What a model is trained with and asked for, as values."""
    known = exam.catalogue.slice(0, TITLES).to_pydict()
    queries = exam.queries
    return {
        "part": str(exam.train_part.drop_columns([HISTORY_HASH]).to_pylist()),
        "known": {name: list(map(str, values)) for name, values in known.items()},
        "candidates": exam.candidates[TITLE_ID].to_pylist(),
        "histories": queries.histories[TITLE_ID].to_pylist(),
        "targets": queries.targets.tolist(),
        "moment": exam.moment,
    }


@pytest.mark.parametrize("protocol", ["leave-one-out", "time-split"])
def test_later_events_plays_titles_and_another_snapshot_change_no_feature(protocol):
    before, after = (features(exam_of(data, protocol)) for data in (BEFORE, AFTER))
    assert len(before["targets"]) > 20
    for name in before:
        assert before[name] == after[name], name


@pytest.mark.parametrize("protocol", ["leave-one-out", "time-split"])
def test_nor_a_figure_of_a_model_that_is_trained_for_it(make, monkeypatch, protocol):
    monkeypatch.setattr(evaluation_module, "time_split", lambda *data, watch: split_at(*data, SPLIT, watch=watch))
    found = [train_and_evaluate(*data, make.config(max_steps=8), 0, protocol) for data in (BEFORE, AFTER)]
    for figures in found:
        for name in ("seconds", "tokens_per_second"):
            del figures["training"][name]
    assert found[0] == found[1]
    assert found[0]["training"]["trained_until"] < (BEGIN + timedelta(days=60)).isoformat()


class Popular:
    """Ranks by what the catalogue says of plays and ages, so that a day more changes the order."""

    model_id, dim = "popular", 2

    def encode_titles(self, titles):
        return np.stack([np.asarray(titles["plays"]) / 10, np.sin(np.asarray(titles["age_days"]))], axis=1)

    def encode_members(self, histories):
        return np.ones((len(histories), 2))


def test_nor_that_of_a_model_that_reads_plays_and_ages():
    assert evaluate(*BEFORE, Popular()) == evaluate(*AFTER, Popular())


def test_plays_are_those_of_the_part_and_ages_those_of_its_end():
    """Two plays an event: a share of all events is no share of the plays."""
    data = read(interactions(plays=2))
    for exam in (leave_one_out(*data), split_at(*data, SPLIT)):
        known, end = exam.catalogue.to_pylist(), datetime.fromtimestamp(exam.moment, UTC)
        met = exam.train_part[TITLE_ID].combine_chunks().flatten().to_pylist()
        assert [row["plays"] for row in known] == [2 * met.count(row[TITLE_ID]) for row in known]
        assert [row["age_days"] for row in known] == [float((end - row["launch_time"]).days) for row in known]
    assert min(row["age_days"] for row in known) < 0


def test_a_snapshot_years_later_gives_the_ages_of_the_split():
    histories, catalogue = BEFORE
    place = catalogue.schema.get_field_index("age_days")
    years = catalogue.set_column(place, "age_days", pa.array(np.asarray(catalogue["age_days"]) + 3000))
    for split in (leave_one_out, time_split):
        assert split(histories, years).catalogue.equals(split(histories, catalogue).catalogue)


def test_a_title_that_launches_between_the_split_and_the_last_question_is_a_candidate():
    histories, catalogue = BEFORE
    exam = split_at(histories, catalogue, SPLIT)
    launches = catalogue["launch_time"].to_pylist()
    late = [n for n, at in enumerate(launches) if at.timestamp() > SPLIT]
    last = exam.queries.times.max()
    assert late
    assert {n for n in late if launches[n].timestamp() <= last} <= set(exam.candidates[TITLE_ID].to_pylist())


def test_what_was_shown_is_weighed_from_what_was_shown_by_then(make):
    asked = []

    def weigh(part, moment):
        asked.append((part, moment))
        return part

    histories, catalogue = BEFORE
    train_and_evaluate(histories, catalogue, make.config(max_steps=2), 0, "time-split", None, WATCH_ACTIONS, weigh)
    exam = time_split(histories, catalogue)
    (part, moment) = asked[0]
    assert str(part.to_pylist()) == str(exam.train_part.to_pylist())
    assert moment < datetime.fromtimestamp(exam.moment, UTC)


# --- plays of tokens


def test_plays_of_a_token_are_its_events_without_the_other_actions():
    play, thumb, trailer = (1 << ACTIONS.index(name) for name in ("play", "thumb_up", "trailer"))
    actions = np.array([play, play | thumb, play | thumb | trailer, thumb, 0, play | thumb])
    events = np.array([3, 3, 2, 5, 1, 1])
    assert plays_of_tokens(actions, events, WATCH_ACTIONS).tolist() == [3, 2, 1, 0, 0, 1]


def test_plays_are_of_the_actions_that_are_configured():
    config = HistoriesConfig(actions=("seen", "liked", "bought"), watch_actions=("seen", "bought"))
    assert watch_bits(config) == 0b101
    assert watch_bits(HistoriesConfig()) == WATCH_ACTIONS
    rows = interactions()
    histories, catalogue = read(rows)
    ids = catalogue[TITLE_ID].combine_chunks()
    assert plays_of(histories, ids).tolist() == catalogue["plays"].to_pylist()
    assert plays_of(histories, ids, 0).sum() == 0
    assert plays_of(histories, ids.slice(3, 2)).tolist() == catalogue["plays"].to_pylist()[3:5]
