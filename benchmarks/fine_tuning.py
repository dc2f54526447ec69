"""Fine-tuning: a tenth of an application's data on a trained model, against a model of its own from all of them.

A simulated service. The foundation model learns what half of the members did; the application is a television that
cares for what the other half watched through on it, and is asked the last title of each of them. Peers
are models trained from nothing on all of the application's data and on the same tenth; the floor is the untuned model.

    python benchmarks/fine_tuning.py --size small
"""

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.foundation.config import FineTuneConfig, FoundationConfig
from embeddings.foundation.encoder import FoundationEncoder
from embeddings.foundation.evaluation_splits import EvalSplit, leave_one_out
from embeddings.foundation.fine_tuning import fine_tune
from embeddings.foundation.metrics import inner_product_scorer, rank_titles
from embeddings.foundation.trainer import train
from embeddings.histories.job import HistoriesConfig, read_histories
from stores import schema
from stores.files.filesystem import Storage
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate

SIZES = {"small": ((300, 150, 20), 30), "full": ((1000, 250, 40), 120)}
SHARE, WATCHED_THROUGH, SURFACE = 0.1, 0.8, "tv"
MODES = ("adapters", "frozen", "full")


def watched_through(histories: pa.Table) -> pa.Table:
    """Only the titles that were watched through on the application's surface; members without any are left out."""
    lists = {field.name: histories[field.name].combine_chunks() for field in histories.schema}
    value, device = lists[schema.VALUE].flatten(), lists[schema.DEVICE].flatten()
    kept = pc.fill_null(pc.and_(pc.greater_equal(value, WATCHED_THROUGH), pc.equal(device, SURFACE)), False)
    lengths = np.asarray(pc.list_value_length(lists[schema.TITLE_ID]))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    left = np.bincount(owner[np.asarray(kept)], minlength=len(lengths))
    offsets = pa.array(np.append(0, np.cumsum(left)).astype(np.int32))
    for place, field in enumerate(histories.schema):
        if pa.types.is_list(field.type):
            part = pa.ListArray.from_arrays(offsets, lists[field.name].flatten().filter(kept), type=field.type)
            histories = histories.set_column(place, field, part)
    return histories.filter(pa.array(left > 0))


def quality(exam: EvalSplit, model: str) -> dict[str, float]:
    """How the model in a folder answers the exam."""
    encoder, queries = FoundationEncoder.load(model), exam.queries
    members, titles = encoder.encode_members(queries.histories), encoder.encode_titles(exam.candidates)
    ranking = rank_titles(inner_product_scorer(members, titles), queries, len(titles))
    return {**ranking.metrics(), "gain": ranking.full_ndcg()}


def measured(shape: tuple[int, int, int], steps: int, seed: int) -> dict[str, Any]:
    """Quality of each way, by name, and the share of the weights that each mode moves."""
    config = FoundationConfig.model_validate({"training": {"min_steps": min(steps, 1000), "max_steps": 3 * steps}})
    with tempfile.TemporaryDirectory() as folder:
        members, titles, days = shape
        simulate(f"{folder}/lake", SimulationConfig(members=members, titles=titles, days=days, seed=seed))
        histories, catalogue = read_histories(Lake.open(f"{folder}/lake"), datetime.now(UTC), HistoriesConfig())
        halves = np.random.default_rng(seed).random(len(histories)) < 0.5
        exam = leave_one_out(watched_through(histories.filter(pa.array(~halves))), catalogue)
        few = exam.train_part.filter(pa.array(np.random.default_rng(seed).random(len(exam.train_part)) < SHARE))
        base = train(histories.filter(pa.array(halves)), catalogue, config, seed, Path(folder)).path
        print(
            f"{len(exam.train_part)} members of the application, {len(few)} of them to learn from in fine-tuning",
            flush=True,
        )
        found: dict[str, Any] = {"floor": told("floor", quality(exam, base))}
        for mode in MODES:
            tuning = config.model_copy(update={"fine_tune": FineTuneConfig(mode=mode)})
            model = fine_tune(few, catalogue, tuning, seed, Storage(folder), base)
            moved = model.metrics["fine_tune"]["trained_share"]
            found[mode] = told(mode, {**quality(exam, model.path), "moved": moved})
        for name, part in (("scratch_all", exam.train_part), ("scratch_few", few)):
            model = train(part, exam.catalogue, config, seed, Path(folder))
            found[name] = told(name, quality(exam, model.path))
    return found


def told(name: str, figures: dict[str, float]) -> dict[str, float]:
    """The figures, printed as soon as they are there."""
    print(f"{name:12s} " + "  ".join(f"{figure} {value:.4f}" for figure, value in figures.items()), flush=True)
    return figures


def main() -> None:
    """Run all ways, and print the whole as the last line with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    ways = measured(*SIZES[args.size], args.seed)
    ours, peers = ways["adapters"]["ndcg@10"], {name: ways[name]["ndcg@10"] for name in ("scratch_all", "scratch_few")}
    ratios = {name: ours / max(peer, 1e-9) for name, peer in peers.items()}
    result = {
        "stage": "fine_tuning",
        "size": args.size,
        "ours": ours,
        "floor": ways["floor"]["ndcg@10"],
        "peers": peers,
        "unit": "ndcg@10",
        "ratio_floor": ours / max(ways["floor"]["ndcg@10"], 1e-9),
        "ratios": ratios,
        "ratio_best_peer": min(ratios.values()),
        "quality": ways,
    }
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
