"""Several tasks on one model: each alone, all on one expert, on a mixture of experts, with turns, and merged.

Every way begins from the same trained model, whose weights stay; "single" gives each task experts of its own and a
training of its own, the others share one training of 30 % of those steps together, so that with measuring they stay
below 40 % of the processor seconds; merging, off by default, comes on top. A score is the task's own (NDCG without a
cut, share of genres, area under the curve, recall of generated titles) on the last new title of each member, which no
training has seen; `base` is the model before any of them. Ratios are to the single-task models, paired by seed.
Generated titles are compared with the tower's, and with the union of both at equal size, on slices.

    python benchmarks/tasks.py --data simulated --seeds 3 --json
    python benchmarks/tasks.py --data ratings --lake LAKE --first 2 --json > ratings-2.txt
    python benchmarks/tasks.py --table ratings-*.txt
"""

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from benchmarks.candidate_fusion import fuse, of_scores
from embeddings.foundation import checkpoint, train
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FoundationConfig, TasksConfig
from embeddings.foundation.encode import member_vectors, title_vectors
from embeddings.foundation.evaluation_queries import build_queries, event_counts
from embeddings.foundation.evaluation_splits import EvalSplit, leave_one_out
from embeddings.foundation.generate import seen_titles
from embeddings.foundation.metrics import TOP_K
from embeddings.foundation.sequences import TokenSequences
from embeddings.foundation.tasks.task import EvalQueries
from embeddings.foundation.tasks.trainer import TaskTrainer, TrainedTasks, create_task, train_tasks
from embeddings.histories.job import HistoriesConfig, read_histories
from stores import schema
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate

ALL = ("next_title", "trailers", "plays", "thumbs", "next_genre", "completion", "co_members", "next_id")
OF_RATINGS = ("next_title", "next_genre", "co_members", "next_id")
SERVICES = {
    "simulated": ({"members": 600, "titles": 300, "days": 40}, ALL),
    "short": ({"members": 1500, "titles": 500, "days": 30, "sessions_per_day": 0.08}, ALL),
    "small": ({"members": 200, "titles": 100, "days": 30}, ALL),
}
SHARE, LISTED = 0.3, 50
SHARES = (0.25, 0.5, 0.75)
"""Of generation in the union."""
PLAIN: dict[str, Any] = {"adaptive_sampling": False, "merge": False}
WAYS = ("shared", "mixture", "scheduled", "merged")
"""The last two are one training, looked at before merging and after."""


def data(name: str, lake: str | None, folder: str, seed: int) -> tuple[EvalSplit, tuple[str, ...]]:
    """What is learned from and what is asked."""
    place, names = lake or f"{folder}/lake", OF_RATINGS
    if name != "ratings":
        shape, names = SERVICES[name]
        simulate(place, SimulationConfig(**shape, seed=seed))
    return leave_one_out(*read_histories(Lake.open(place), datetime.now(UTC), HistoriesConfig())), names


def measured(
    exam: EvalSplit, names: tuple[str, ...], config: FoundationConfig, steps: int, seed: int
) -> dict[str, Any]:
    """Scores by way and task, steps and processor seconds by way, and what generation finds."""
    with tempfile.TemporaryDirectory() as folder:
        parent = checkpoint.load_checkpoint(train(exam.train_part, exam.catalogue, config, seed, Path(folder)).path)[0]
    questions = EvalQueries.of(exam.histories, parent.vocabulary, exam.query_positions, parent.model.length)
    found: dict[str, dict[str, float]] = {"base": told("base", base(parent, names, questions))}
    plain = TasksConfig(names=names, steps_per_task=steps, rounds=1, experts="shared", **PLAIN)
    alone = [learned(parent, exam, config, plain.model_copy(update={"names": (name,)}), seed) for name in names]
    found["single"] = told("single", {key: score for each in alone for key, score in each.scores(questions).items()})
    cost = {"single": np.sum([costs(each) for each in alone], axis=0).tolist()}
    share = max(1, round(SHARE * steps))
    for way in ("shared", "mixture"):
        tasks = TasksConfig(names=names, steps_per_task=share, experts=way, **PLAIN)
        trained = learned(parent, exam, config, tasks, seed)
        found[way], cost[way] = told(way, trained.scores(questions)), costs(trained)
    torch.manual_seed(seed)
    tasks = TasksConfig(names=names, steps_per_task=share, merge=True)
    course = TaskTrainer(parent, exam.train_part, exam.catalogue, config, tasks, seed)
    course.run()
    for way, merge in (("scheduled", False), ("merged", True)):
        trained = course.extract_models(merge)
        found[way], cost[way] = told(way, trained.scores(questions)), costs(trained)
    return {
        "scores": found,
        "cost": cost,
        "turns": trained.report["shares"],
        "kept": trained.report["kept"],
        "generation": generation(trained, parent, exam),
    }


def costs(trained: TrainedTasks) -> list[float]:
    """Steps and processor seconds."""
    return [float(trained.report[what]) for what in ("steps", "processor_seconds")]


def learned(
    parent: Checkpoint, exam: EvalSplit, config: FoundationConfig, tasks: TasksConfig, seed: int
) -> TrainedTasks:
    """A training of tasks on the exam's part."""
    return train_tasks(parent, exam.train_part, exam.catalogue, config, tasks, seed)


@torch.no_grad()
def base(parent: Checkpoint, names: tuple[str, ...], questions: EvalQueries) -> dict[str, float]:
    """The scores of the model as it is."""
    tasks = [create_task(name, parent.model) for name in names]
    return {task.name: task.score(parent.model, questions.for_task(task.view(questions.tokens))) for task in tasks}


@torch.no_grad()
def generation(trained: TrainedTasks, parent: Checkpoint, exam: EvalSplit) -> dict[str, dict[str, float]]:
    """Recall@10 of the tower, of generation, and of what both say together, by slice."""
    histories, catalogue, model = exam.queries.histories, exam.catalogue, trained.models["next_title"].eval()
    members = torch.from_numpy(member_vectors(model, TokenSequences.of(histories, parent.vocabulary))) * model.scale
    titles = torch.from_numpy(title_vectors(model, parent.vocabulary, catalogue))
    scores = (members @ titles.T).masked_fill(seen_titles(histories, catalogue), float("-inf"))
    tower, found = of_scores(scores, LISTED), trained.generator(parent).candidates(histories, catalogue, LISTED)
    generated = torch.from_numpy(found.titles), torch.from_numpy(found.scores)
    answers = build_queries(exam.histories, catalogue[schema.TITLE_ID].combine_chunks(), exam.query_positions).targets
    ways = {"tower": tower, "generated": generated}
    ways |= {f"union {share}": fuse(tower, generated, TOP_K, share) for share in SHARES}
    hits = {name: (rows[:, :TOP_K].numpy() == answers[:, None]).any(axis=1) for name, (rows, _) in ways.items()}
    return {
        part: {"questions": int(chosen.sum()), **{name: float(hit[chosen].mean()) for name, hit in hits.items()}}
        for part, chosen in slices(
            event_counts(exam.train_part, catalogue[schema.TITLE_ID].combine_chunks()), answers
        ).items()
        if chosen.any()
    }


def slices(plays: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
    """All answers; those outside the titles that make up half of all plays; those that nobody had met before."""
    order = np.argsort(-plays, kind="stable")
    ahead = np.empty(len(plays))
    ahead[order] = np.cumsum(plays[order]) - plays[order]
    cold = plays[answers] == 0
    return {"all": np.ones(len(answers), bool), "tail": (ahead[answers] >= plays.sum() / 2) & ~cold, "cold": cold}


def told(way: str, scores: dict[str, float]) -> dict[str, float]:
    """The scores, printed as soon as they are there."""
    print(f"{way:10s}" + "".join(f"  {task} {score:.4f}" for task, score in scores.items()), flush=True)
    return scores


def compared(runs: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """By way and task: the score over that of the single-task model, of each run."""
    return {
        way: {
            task: [
                run["scores"][way][task] / max(single, 1e-9)
                for run in runs
                for single in [run["scores"]["single"][task]]
            ]
            for task in runs[0]["scores"]["single"]
        }
        for way in WAYS
    }


def table(runs: list[dict[str, Any]]) -> str:
    """What the documentation shows: ratios with 95 % intervals over the runs (Student's t), and what it cost."""
    tasks = list(runs[0]["scores"]["single"])
    lines = [["", *tasks, "steps", "processor seconds"]]
    for way in ("base", "single"):
        lines.append([way, *(f"{np.mean([run['scores'][way][task] for run in runs]):.4f}" for task in tasks), "", ""])
    for way, found in compared(runs).items():
        costs = np.mean([np.divide(run["cost"][way], run["cost"]["single"]) for run in runs], axis=0)
        lines.append(
            [f"{way} ÷ single", *(interval(found[task]) for task in tasks), *(f"{cost:.2f}" for cost in costs)]
        )
    for part in {part: 0 for run in runs for part in run["generation"]}:
        asked = [run["generation"][part] for run in runs if part in run["generation"]]
        weights = [each["questions"] for each in asked]
        means = {name: np.average([each[name] for each in asked], weights=weights) for name in asked[0]}
        lines.append([f"recall@{TOP_K} {part}", *(f"{name} {mean:.4f}" for name, mean in means.items())])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interval(values: list[float]) -> str:
    """The mean, and half the width of its 95 % interval where there is more than one value."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {stats.t.ppf(0.975, len(values) - 1) * stats.sem(values):.3f}"


def main() -> None:
    """All seeds of one kind of data; the whole as the last line with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--data", choices=("ratings", *SERVICES), help="default: small, or simulated in full")
    parser.add_argument("--lake", help="of ratings")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--table", nargs="+", metavar="FILE", help="only show what earlier runs with --json wrote")
    args = parser.parse_args()
    if args.table:
        told_before = [json.loads(Path(file).read_text().splitlines()[-1]) for file in args.table]
        print(table([run for each in told_before for run in each["quality"]["runs"]]))
        return
    steps, first = {"small": (5, 40), "full": (120, 450)}[args.size]
    training = {
        "min_steps": first,
        "max_steps": first,
        "batch_tokens": 1024,
        "max_validation_members": 300,
        "num_validations": 5,
    }
    config, runs = FoundationConfig.model_validate({"training": training}), []
    for seed in range(args.first, args.first + args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            kind = args.data or {"small": "small", "full": "simulated"}[args.size]
            exam, names = data(kind, args.lake, folder, seed)
        runs.append(measured(exam, names, config, steps, seed))
    print(table(runs))
    if args.json:
        print(json.dumps(result(runs, args.size)))


def result(runs: list[dict[str, Any]], size: str) -> dict[str, Any]:
    """The runs in the form that all benchmarks have; costs are processor seconds, measuring included."""
    ours, single = (float(np.mean([run["cost"][way][1] for run in runs])) for way in ("scheduled", "single"))
    ratios = compared(runs)
    return {
        "stage": "tasks",
        "size": size,
        "ours": ours,
        "floor": None,
        "peers": {"single": single},
        "unit": "processor seconds",
        "ratio_floor": None,
        "ratios": {"single": single / ours},
        "ratio_best_peer": single / ours,
        "quality": {
            "worst_task_to_single": float(min(np.mean(values) for values in ratios["scheduled"].values())),
            "ratios": ratios,
            "runs": runs,
        },
    }


if __name__ == "__main__":
    main()
