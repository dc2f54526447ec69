"""Honest next-title evaluation: full ranking, seen titles filtered, beside baselines that answer the same questions.

`leave-one-out`: the last new title of each member is the test, the one before it the validation of
the training. Candidates are the titles met in the training part, so a title nobody had met is a miss.

`time-split`: everything before a moment is the training part. Up to five titles that a member newly
meets afterwards are asked; the member is encoded from a history that ends 0, 24 or 48 hours before
each. Candidates are the whole catalogue, so that cold titles can be found, without titles that launch after the last
question and that nobody met.
"""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from embeddings.encode.bisection import answers
from embeddings.encode.encoder import CatalogueReader, Encoder, Vectors
from embeddings.foundation import baselines
from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.encoder import FoundationEncoder
from embeddings.foundation.evaluation_splits import EvalSplit, leave_one_out, time_split
from embeddings.foundation.metrics import Ranking, inner_product_scorer, rank_titles
from embeddings.foundation.point_in_time import WATCH_ACTIONS
from embeddings.foundation.trainer import TrainingProgress, train
from stores.errors import UsageError

Protocol = Literal["leave-one-out", "time-split"]
STALE_HOURS = (24, 48)


def evaluate(
    histories: pa.Table,
    catalogue: pa.Table,
    encoder: Encoder,
    protocol: Protocol = "leave-one-out",
    watch: int = WATCH_ACTIONS,
) -> dict[str, Any]:
    """Metrics of an encoder: "hr@10", "ndcg@10", "coverage@10", "baselines", …, see `_report`.

    A model that was trained on all of `histories` knows the answers; `train_and_evaluate` is the fair test. `watch`
    are the bits of the actions that count as plays (`point_in_time`). Members and titles on which the encoder fails
    are not found. Raises EncoderError where it fails on all, MismatchError where the catalogue is not what it was
    trained with.
    """
    return _report(_split(histories, catalogue, protocol, watch), encoder)


def train_and_evaluate(
    histories: pa.Table,
    catalogue: pa.Table,
    config: FoundationConfig,
    seed: int = 0,
    protocol: Protocol = "leave-one-out",
    progress: Callable[[TrainingProgress], None] | None = None,
    watch: int = WATCH_ACTIONS,
    weigh: Callable[[pa.Table, datetime], pa.Table] | None = None,
) -> dict[str, Any]:
    """Train on the protocol's own training part, then evaluate; the model is thrown away.

    Nothing of the test leaks: plays and ages in the catalogue are those of the training part. `weigh` puts what was
    shown beside the events of that part, from what was known before a moment (`exposure.with_propensity`).
    """
    exam = _split(histories, catalogue, protocol, watch)
    known_until = datetime.fromtimestamp(exam.moment, UTC) - timedelta(microseconds=1)
    part = weigh(exam.train_part, known_until) if weigh else exam.train_part
    with tempfile.TemporaryDirectory() as folder:
        trained = train(part, exam.catalogue, config, seed, Path(folder), progress)
        result = _report(exam, FoundationEncoder.load(trained.path))
    return {**result, "training": trained.metrics}


def _split(histories: pa.Table, catalogue: pa.Table, protocol: Protocol, watch: int) -> EvalSplit:
    if protocol == "leave-one-out":
        return leave_one_out(histories, catalogue, watch)
    if protocol == "time-split":
        return time_split(histories, catalogue, watch=watch)
    raise UsageError(f"no such protocol: {protocol}", expected="leave-one-out or time-split")


def _report(exam: EvalSplit, encoder: Encoder) -> dict[str, Any]:
    """The encoder beside the baselines; a time split adds `staleness`, `slices`, `recall@10` (here hr@10)."""
    if isinstance(encoder, CatalogueReader):
        encoder.catalogue_notes(exam.catalogue)
    titles = answers(encoder.encode_titles, exam.candidates, encoder.dim)
    fresh = _rank(exam, encoder, titles, 0)
    answered = _baselines(exam)
    result: dict[str, Any] = {
        "protocol": exam.protocol,
        **fresh.metrics(),
        "baselines": {name: ranking.metrics() for name, ranking in answered.items()},
        "questions": len(exam.query_positions),
        "candidates": len(exam.candidates),
        "cold_questions": float((exam.queries.targets < 0).mean()) if len(exam.query_positions) else 0.0,
    }
    if exam.protocol == "time-split":
        stale = {str(hours): _rank(exam, encoder, titles, hours * 3600).metrics() for hours in STALE_HOURS}
        result["recall@10"] = result["hr@10"]
        result["staleness"] = {"0": fresh.metrics(), **stale}
        result["slices"] = {
            name: {
                "questions": int(chosen.sum()),
                **fresh.metrics(chosen),
                "baselines": {base: ranking.metrics(chosen) for base, ranking in answered.items()},
            }
            for name, chosen in exam.slices.items()
        }
    return result


def _rank(exam: EvalSplit, encoder: Encoder, titles: Vectors, stale: int) -> Ranking:
    queries = exam.stale_queries(stale) if stale else exam.queries
    members = answers(encoder.encode_members, queries.histories, encoder.dim)
    return rank_titles(inner_product_scorer(members, titles), queries, len(titles))


def _baselines(exam: EvalSplit) -> dict[str, Ranking]:
    ids = exam.title_ids
    scorers = {
        "popularity": baselines.popularity(exam.train_part, ids),
        "item_knn": baselines.item_knn(exam.train_part, ids, exam.queries),
    }
    if exam.protocol == "time-split":
        scorers["popular_7_days"] = baselines.popular_7_days(exam.histories, ids, exam.queries)
    return {name: rank_titles(scorer, exam.queries, len(ids)) for name, scorer in scorers.items()}
