"""The night's model beside the live one: both answer the same questions about events later than their trainings.

A question is the first title that is new to a member after both models were trained. Both encode the
member from the history before that event, and both rank the same titles, so neither has seen the answer
and the answers are paired. Popular-7-days, the plays of the week before, answers too. Where nothing
can be asked, fairly, the report says why. Titles have the plays and ages of the moment after which questions begin:
the answers are among the plays of tonight.

What is kept are counts of hits (both, only this model, only the other, neither) and means, squares and product of the
`gains`, whose mean is NDCG without a cut. They are all that paired intervals need.
"""

import json
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.encode.bisection import answers
from embeddings.encode.config import EncodeConfig
from embeddings.encode.encoder import CatalogueReader, Encoder, load
from embeddings.foundation.evaluation_queries import EventTable, Queries, build_queries
from embeddings.foundation.metrics import inner_product_scorer, ndcg_gains, rank_titles
from embeddings.foundation.point_in_time import catalogue_as_of, watch_bits, with_play_counts
from embeddings.histories.config import HistoriesConfig
from stores.errors import SamespaceError
from stores.files.filesystem import Storage
from stores.releases.release import Release, StageReport
from stores.releases.workspace import MODELS
from stores.schema import EVENT_TIME, TIMED_TEXT, TIMESTAMP_TYPE, TITLE_ID

TRAINED_UNTIL = "trained_until"
CATALOGUE = "work/catalogue.parquet"
TIMED_TEXTS = "work/timed_texts.parquet"
MAX_QUERIES, TOP_K, WEEK_S = 2_000, 10, 7 * 86_400
SHORT_HISTORY_TOKENS = 10
_NUMBERS = ("last_time", "actions", "events")

Rows = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def run(config: EncodeConfig, release: Release) -> StageReport:
    """Ask both models; metrics `questions`, `since`, `why` (where nothing was asked), `against` and `slices`.

    Raises EncoderError where the night's model cannot be loaded.
    """
    live = _live_model_id(release)
    if live == release.plan.model_id:
        return _not_compared("the live release is of the same model")
    moments = [trained_until(release, model) for model in (release.plan.model_id, live) if model]
    if live is None or None in moments:
        return _not_compared(
            "there is no live model" if live is None else "a model does not say until when it was trained"
        )
    since = max(moment for moment in moments if moment)
    ids = release.read_table(CATALOGUE, [TITLE_ID])[TITLE_ID].combine_chunks()
    histories, places = _sample_queries(release, ids, since)
    if not len(places):
        return _not_compared(f"no member met a new title after {since.isoformat()}")
    queries = build_queries(histories, ids, EventTable.of(histories, ids).starts[:-1] + places)
    plays, week = _plays_until(release, ids, since)
    catalogue = catalogue_as_of(_with_texts(release), plays, int(since.timestamp()))
    try:
        current = _ranks(config, release, live, queries, catalogue)
    except SamespaceError as error:  # the night does not depend on it
        return _not_compared(f"the live model {live} cannot be asked: {error.what}")
    ranks = {"model": _ranks(config, release, release.plan.model_id, queries, catalogue), "current": current}
    everyone = np.broadcast_to(week.astype(np.float32), (len(queries), len(week)))
    ranks["popular_7_days"] = rank_titles(lambda begin, end: everyone[begin:end], queries, len(week)).ranks
    slices = {
        "new_members": np.diff(queries.seen_starts) < SHORT_HISTORY_TOKENS,
        "tail_titles": week[queries.targets] < _head_min_plays(week),
    }
    metrics = {
        "questions": len(queries),
        "since": since.isoformat(),
        "live_model": live,
        "against": _compare_ranks(ranks, np.ones(len(queries), np.bool_)),
        "slices": {name: _compare_ranks(ranks, rows) for name, rows in slices.items()},
    }
    return StageReport(name="compare_models", rows=len(queries), metrics=metrics)


def _compare_ranks(ranks: dict[str, Ints], rows: Rows) -> dict[str, dict[str, Any]]:
    return {
        other: _paired_counts(ranks["model"][rows], found[rows]) for other, found in ranks.items() if other != "model"
    }


def trained_until(release: Release, model_id: str) -> datetime | None:
    """The newest event that a model learned from, by its metrics.json; None where that is damaged or does not say."""
    storage = Storage(release.workspace_uri).subfolder(MODELS, model_id)
    if not storage.exists("metrics.json"):
        return None
    try:
        return datetime.fromisoformat(json.loads(storage.read("metrics.json"))[TRAINED_UNTIL])
    except (ValueError, KeyError, TypeError):
        return None


def _not_compared(why: str) -> StageReport:
    return StageReport(name="compare_models", metrics={"questions": 0, "why": why})


def _live_model_id(release: Release) -> str | None:
    before = release.plan.previous_release
    return release.other(before).manifest.model_id if before else None


def _paired_counts(model_ranks: Ints, other_ranks: Ints) -> dict[str, Any]:
    """How many questions both answer, only one of them, and neither; under `gains` the moments of both gains."""
    model, other = model_ranks < TOP_K, other_ranks < TOP_K
    counts = {"both": model & other, "model": model & ~other, "other": ~model & other, "neither": ~model & ~other}
    return {name: int(rows.sum()) for name, rows in counts.items()} | {"gains": _gain_moments(model_ranks, other_ranks)}


def _gain_moments(model_ranks: Ints, other_ranks: Ints) -> dict[str, float]:
    """Means of both gains, of their squares and of their product; empty without questions."""
    if not len(model_ranks):
        return {}
    model, other = ndcg_gains(model_ranks), ndcg_gains(other_ranks)
    squares = {"model_squared": model**2, "other_squared": other**2, "product": model * other}
    return {name: float(each.mean()) for name, each in {"model": model, "other": other, **squares}.items()}


# --- the questions


def _sample_queries(release: Release, ids: pa.Array, since: datetime) -> tuple[pa.Table, Ints]:
    """Histories with a question, about QUESTIONS in all and as many of every shard, and the places of the answers."""
    paths = release.storage.files("histories")
    each = -(-MAX_QUERIES // max(len(paths), 1))
    tables, places = [], [np.zeros(0, np.int64)]
    for path in paths:
        table = release.read_table(path)
        late = np.flatnonzero(pc.greater(table[EVENT_TIME], pa.scalar(since, TIMESTAMP_TYPE)).to_numpy())
        # Some of them meet nothing new, so more are looked at than are wanted.
        late = late[np.unique(np.linspace(0, len(late) - 1, min(len(late), 4 * each)).astype(np.int64))]
        found = first_new_title(table.take(pa.array(late)), ids, since)
        asked = np.flatnonzero(found >= 0)
        asked = asked[np.unique(np.linspace(0, len(asked) - 1, min(len(asked), each)).astype(np.int64))]
        tables.append(table.take(pa.array(late[asked])))
        places.append(found[asked])
    return pa.concat_tables(tables), np.concatenate(places)


def first_new_title(histories: pa.Table, ids: pa.Array, since: datetime) -> Ints:
    """(n,) the place of each member's first token after `since` on a title of `ids` not met before; −1: none."""
    events, out = EventTable.of(histories, ids), np.full(len(histories), -1, np.int64)
    tokens = np.flatnonzero(events.new & (events.first > int(since.timestamp())))
    owners, first = np.unique(events.owner[tokens], return_index=True)
    out[owners] = events.positions()[tokens[first]]
    return out


# --- the answers


def _ranks(config: EncodeConfig, release: Release, model_id: str, queries: Queries, catalogue: pa.Table) -> Ints:
    """Ranks of the answers by one model; a member or title on which it fails is not found.

    Raises EncoderError where it fails on all of them, MismatchError where the catalogue is not what it was trained
    with, and as `encoder.load`.
    """
    encoder = _encoder(config, release, model_id)
    if isinstance(encoder, CatalogueReader):
        encoder.catalogue_notes(catalogue)
    members = answers(encoder.encode_members, queries.histories, encoder.dim)
    titles = answers(encoder.encode_titles, catalogue, encoder.dim)
    return rank_titles(inner_product_scorer(members, titles), queries, len(titles)).ranks


def _head_min_plays(plays: Ints) -> int:
    """The fewest plays of a title among the most played ones that have half of all plays."""
    falling = np.sort(plays)[::-1]
    total = np.cumsum(falling)
    return int(falling[np.searchsorted(total, total[-1] / 2)]) if len(plays) else 0


def _encoder(config: EncodeConfig, release: Release, model_id: str) -> Encoder:
    with Storage(release.workspace_uri).subfolder(MODELS).local_copy(model_id) as folder:
        return load(config.encoder, str(folder))


def _plays_until(release: Release, ids: pa.Array, since: datetime) -> tuple[Ints, Ints]:
    """(titles,) plays of all members up to `since`, and tokens in the seven days before it, counted shard by shard."""
    plays, week, end = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64), round(since.timestamp() * 1e6)
    watch = watch_bits(HistoriesConfig.model_validate(release.plan.config.get("histories", {})))
    for path in release.storage.files("histories"):
        table = release.read_table(path, [TITLE_ID, *_NUMBERS])
        titles = pc.list_flatten(table[TITLE_ID].combine_chunks())
        last, actions, events = (
            pc.list_flatten(table[name].combine_chunks()).cast(pa.int64()).to_numpy() for name in _NUMBERS
        )
        known = last <= end
        plays += with_play_counts(titles.filter(pa.array(known)), actions[known], events[known], ids, watch)
        late = known & (last > end - WEEK_S * 1_000_000)
        found = pc.index_in(titles.filter(pa.array(late)), value_set=ids).drop_null()
        week += np.bincount(found.to_numpy(), minlength=len(ids))
    return plays, week


def _with_texts(release: Release) -> pa.Table:
    """The night's catalogue, with the texts of its titles one by one where they have times."""
    catalogue = release.read_table(CATALOGUE)
    if not release.storage.exists(TIMED_TEXTS):
        return catalogue
    texts = release.read_table(TIMED_TEXTS)
    rows = pc.index_in(catalogue[TITLE_ID], value_set=texts[TITLE_ID].combine_chunks())
    return catalogue.append_column(TIMED_TEXT, texts[TIMED_TEXT].combine_chunks().take(rows.combine_chunks()))
