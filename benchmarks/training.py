"""Training: our default against a plain PyTorch SASRec of the same width, depth, heads and length (`sasrec.py`).

Both learn from the same tokens on the same threads and answer the same leave-one-out questions (full ranking, seen
titles left out). Speed is real tokens a second, padding not counted: steps of each in turn, before either is trained.
Quality is that of ours with its own budget, and of the peer when its validation stops improving or after `--seconds`.
The floors of quality are popularity and item-kNN; speed has none.

    python benchmarks/training.py --size small
    GOMP_SPINCOUNT=5000 python benchmarks/training.py --size full --lake LAKE --seconds 3000
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import torch
from sasrec import RATE, SASRec, answers, batch_size, batches, learn, windows

from embeddings.foundation.batches import endless_batches
from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.evaluation import train_and_evaluate
from embeddings.foundation.evaluation_splits import leave_one_out
from embeddings.foundation.train_step import TrainStep
from embeddings.foundation.training_data import TrainingData
from embeddings.histories.job import HistoriesConfig, read_histories
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate

SIZES = {"small": (300, 400, 20), "full": (4000, 2000, 60)}
STEPS = {"small": 100, "full": 30_000}
TIMED, ROUNDS, PATIENCE = 8, 3, 15


def stepper(lesson: TrainingData, config: FoundationConfig) -> Callable[[], int]:
    """One step of our training; how many real tokens it learned from."""
    learner = TrainStep(lesson.model(config), config.training, 1000, 0.1)
    source = endless_batches(lesson.tokens, learner.model.length, config.training, 0)

    def step() -> int:
        batch = next(source)
        learner.step(batch)
        return int((batch.targets > 0).sum())

    return step


def peer_stepper(lesson: TrainingData, config: FoundationConfig, length: int) -> Callable[[], int]:
    """The same of the plain loop."""
    model = SASRec(config.network, len(lesson.vocabulary.title_ids), length)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, betas=(0.9, 0.98))
    inputs, targets = windows(lesson.tokens, length)
    source = batches(inputs, targets, batch_size(len(inputs)))

    def step() -> int:
        one, two = next(source)
        optimiser.zero_grad(set_to_none=True)
        model.loss(one, two).backward()
        optimiser.step()
        return int((two > 0).sum())

    return step


def speeds(*ways: Callable[[], int]) -> list[float]:
    """Real tokens a second of each way: the best of some rounds, taken in turn after a step that does not count."""
    best = [0.0] * len(ways)
    for _, (place, way) in itertools.product(range(ROUNDS), enumerate(ways)):
        way()
        begun = time.perf_counter()
        tokens = sum(way() for _ in range(TIMED))
        best[place] = max(best[place], tokens / (time.perf_counter() - begun))
    return best


def measured(data: tuple[pa.Table, pa.Table], config: FoundationConfig, seconds: float) -> dict[str, Any]:
    """Speed and quality of both, and the quality of the floors."""
    exam = leave_one_out(*data)
    lesson = TrainingData.of(exam.train_part, exam.catalogue, config, seed=0)
    length = lesson.model(config).length
    ours, plain = speeds(stepper(lesson, config), peer_stepper(lesson, config, length))
    model, course = learn(lesson, config.network, length, seconds, PATIENCE)
    peer = answers(model, lesson, exam.queries, exam.title_ids).metrics()
    found = train_and_evaluate(*data, config)
    quality = {name: found[name] for name in ("hr@10", "ndcg@10", "coverage@10")}
    training = {name: found["training"][name] for name in ("seconds", "steps", "best_step", "tokens_per_second")}
    return {
        "speed": {"ours": ours, "sasrec": plain},
        "quality": {"ours": quality, "sasrec": peer, **found["baselines"]},
        "trainings": {"ours": training, "sasrec": asdict(course)},
        "shape": {"threads": torch.get_num_threads(), "length": length, "titles": len(lesson.vocabulary.title_ids)},
    }


def main() -> None:
    """Read or simulate the lake, run both, print the figures and, with --json, all as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--lake", help="a lake to learn from (default: a simulated one)")
    parser.add_argument("--seconds", type=float, help="time of the peer's training at most (default: 10 or 3000)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    least = {"min_steps": min(STEPS[args.size], 1000), "max_steps": STEPS[args.size]}
    config = FoundationConfig.model_validate({"training": least})
    with tempfile.TemporaryDirectory() as folder:
        if not args.lake:
            members, titles, days = SIZES[args.size]
            simulate(f"{folder}/lake", SimulationConfig(members=members, titles=titles, days=days))
        lake = Lake.open(args.lake or f"{folder}/lake")
        data = read_histories(lake, datetime.now(UTC), HistoriesConfig())
    found = measured(data, config, args.seconds or (10.0 if args.size == "small" else 3000.0))
    ratio = found["speed"]["ours"] / found["speed"]["sasrec"]
    print(f"real tokens/s: ours {found['speed']['ours']:,.0f}, SASRec {found['speed']['sasrec']:,.0f} ({ratio:.2f} x)")
    for name, figures in found["quality"].items():
        print(f"{name:12s} " + "  ".join(f"{figure} {value:.4f}" for figure, value in figures.items()))
    result = {
        "stage": "training",
        "size": args.size,
        "ours": found["speed"]["ours"],
        "floor": None,
        "peers": {"sasrec": found["speed"]["sasrec"]},
        "unit": "real tokens/s",
        "ratio_floor": None,
        "ratios": {"sasrec": ratio},
        "ratio_best_peer": ratio,
        **{name: found[name] for name in ("quality", "trainings", "shape")},
    }
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
