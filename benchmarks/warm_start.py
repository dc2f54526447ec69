"""Warm start: one more day of data, learned from yesterday's model in 30 % of the steps or from nothing in all of them.

The last tenth of the events (`--test-share`) is asked: time split, all titles ranked. Today's data are what ended
before it, yesterday's what ended `--hours` earlier. The floor is yesterday's model as it is. Differences are paired by
question, with 95 % intervals that take members as drawn at random.

    python benchmarks/warm_start.py --size small
    python benchmarks/warm_start.py --size full --lake LAKE --hours 24
"""

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from ablation_slices import Slice, difference

from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.encoder import FoundationEncoder
from embeddings.foundation.evaluation_queries import EventTable, truncate_histories
from embeddings.foundation.evaluation_splits import EvalSplit, time_split, with_plays_of
from embeddings.foundation.metrics import inner_product_scorer, rank_titles
from embeddings.foundation.trainer import TrainedModel, train
from embeddings.histories.job import HistoriesConfig, read_histories
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate

SIZES = {"small": ((200, 100, 20), 60), "full": ((2000, 800, 90), 30_000)}
HOUR = 3600


def quality(exam: EvalSplit, model: TrainedModel) -> tuple[dict[str, float], Slice]:
    """How a model answers the exam and the steps that it took; the gain of each question."""
    encoder, queries = FoundationEncoder.load(model.path), exam.queries
    members, titles = encoder.encode_members(queries.histories), encoder.encode_titles(exam.candidates)
    ranking = rank_titles(inner_product_scorer(members, titles), queries, len(titles))
    owners = (
        np.searchsorted(EventTable.of(exam.histories, exam.title_ids).starts, exam.query_positions, side="right") - 1
    )
    gains = Slice(exam.query_positions, owners, 1 / np.log2(ranking.ranks + 2.0))
    steps = {name: float(model.metrics[name]) for name in ("steps", "best_step")}
    return {**ranking.metrics(), "gain": ranking.full_ndcg(), **steps}, gains


def measured(exam: EvalSplit, config: FoundationConfig, hours: float, seed: int) -> dict[str, dict[str, float]]:
    """Yesterday's model, today's from nothing, and today's from yesterday's."""
    events = EventTable.of(exam.train_part, exam.title_ids)
    known = events.last < events.last.max() - hours * HOUR
    ends = np.bincount(events.owner[known], minlength=len(exam.train_part))
    before = truncate_histories(exam.train_part, np.arange(len(exam.train_part)), ends)
    then = with_plays_of(before, exam.train_part, exam.catalogue)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        yesterday = train(before, then, config, seed, place / "yesterday")
        fresh = train(exam.train_part, exam.catalogue, config, seed, place / "fresh")
        warm = train(exam.train_part, exam.catalogue, config, seed, place / "warm", parent=yesterday.path)
        ways = {"yesterday": yesterday, "from_nothing": fresh, "warm": warm}
        found = {name: quality(exam, model) for name, model in ways.items()}
    usual = found["from_nothing"][1]
    told = {
        name: dict(zip(("apart", "give_or_take"), difference([gains], [usual]), strict=True))
        for name, (_, gains) in found.items()
    }
    return {name: {**figures, **told[name]} for name, (figures, _) in found.items()}


def main() -> None:
    """Read or simulate the lake, train three times, print the figures and, with --json, all as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--lake", help="a lake to learn from (default: a simulated one)")
    parser.add_argument(
        "--hours", type=float, default=24.0, help="how much later today is than yesterday (default: 24)"
    )
    parser.add_argument("--test-share", type=float, default=0.1, help="of the events (default: a tenth)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    shape, steps = SIZES[args.size]
    config = FoundationConfig.model_validate({"training": {"min_steps": min(steps, 1000), "max_steps": steps}})
    with tempfile.TemporaryDirectory() as folder:
        if not args.lake:
            simulate(f"{folder}/lake", SimulationConfig(members=shape[0], titles=shape[1], days=shape[2]))
        lake = Lake.open(args.lake or f"{folder}/lake")
        exam = time_split(*read_histories(lake, datetime.now(UTC), HistoriesConfig()), test_share=args.test_share)
    found = measured(exam, config, args.hours, args.seed)
    for name, figures in found.items():
        print(f"{name:12s} " + "  ".join(f"{figure} {value:.4f}" for figure, value in figures.items()))
    if args.json:
        print(json.dumps(result(found, args.size)))


def result(found: dict[str, dict[str, float]], size: str) -> dict[str, Any]:
    """What the last line says."""
    ours, peer, floor = (found[name]["gain"] for name in ("warm", "from_nothing", "yesterday"))
    return {
        "stage": "warm_start",
        "size": size,
        "ours": ours,
        "floor": floor,
        "peers": {"from_nothing": peer},
        "unit": "ndcg without a cut",
        "ratio_floor": ours / floor,
        "ratios": {"from_nothing": ours / peer},
        "ratio_best_peer": ours / peer,
        "quality": {**found, "share_of_steps": found["warm"]["steps"] / found["from_nothing"]["steps"]},
    }


if __name__ == "__main__":
    main()
