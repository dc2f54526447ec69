"""Several tasks on one model: each alone, all on one expert, on a mixture of experts, with turns, and merged.

Every way begins from the same trained model, whose weights stay; "single" gives each task experts of its own and a
training of its own, the others share one training of 40 % of those steps together. A score is the task's own (NDCG
without a cut, share of genres, area under the curve, recall of generated titles) on the last new title of each member,
which no training has seen; `base` is the model before any of them. Ratios are to the single-task models, paired by
seed. Generated titles are compared with the tower's, and with the union of both at equal size, on slices.

    python benchmarks/tasks.py --data simulated --seeds 3 --json
    python benchmarks/tasks.py --data ratings --lake LAKE --seeds 3
"""

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from embeddings.foundation import checkpoint, train
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.protocols import Exam, leave_one_out
from embeddings.foundation.queries import counts
from embeddings.foundation.tasks.config import TasksConfig
from embeddings.foundation.tasks.next_id import NextId
from embeddings.foundation.tasks.questions import Questions
from embeddings.foundation.tasks.training import TrainedTasks, task_of, train_tasks
from embeddings.histories import HistoriesConfig, read_histories
from stores.lake.contract import Lake
from stores.lake.simulate import SimulationConfig, simulate

ALL = ("next_title", "trailers", "plays", "thumbs", "next_genre", "completion", "co_members", "next_id")
OF_RATINGS = ("next_title", "next_genre", "co_members", "next_id")
SERVICES = {
    "simulated": ({"members": 600, "titles": 300, "days": 40}, ALL),
    "short": ({"members": 1500, "titles": 500, "days": 30, "sessions_per_day": 0.08}, ALL),
    "small": ({"members": 200, "titles": 100, "days": 30}, ALL),
}
SHARE, ROUNDS = 0.4, 6
WAYS: dict[str, dict[str, Any]] = {
    "shared": {"experts": "shared", "scheduled": False, "merge": False},
    "mixture": {"scheduled": False, "merge": False},
    "scheduled": {"merge": False},
    "merged": {},
}


def data(name: str, lake: str | None, folder: str, seed: int) -> tuple[Exam, tuple[str, ...]]:
    """What is learned from and what is asked."""
    place, names = lake or f"{folder}/lake", OF_RATINGS
    if name != "ratings":
        shape, names = SERVICES[name]
        simulate(place, SimulationConfig(**shape, seed=seed))
    return leave_one_out(*read_histories(Lake.open(place), datetime.now(UTC), HistoriesConfig())), names


def measured(exam: Exam, names: tuple[str, ...], config: FoundationConfig, steps: int, seed: int) -> dict[str, Any]:
    """Scores by way and task, seconds by way, and what generation finds."""
    with tempfile.TemporaryDirectory() as folder:
        parent = checkpoint.read(train(exam.part, exam.catalogue, config, seed, Path(folder)).path)[0]
    questions = Questions.of(exam.histories, parent.vocabulary, exam.asked, parent.model.length)
    found: dict[str, dict[str, float]] = {"base": told("base", base(parent, names, questions))}
    seconds = {"single": 0.0}
    found["single"] = {}
    plain = TasksConfig(names=names, steps_per_task=steps, rounds=1, experts="shared", scheduled=False, merge=False)
    for name in names:
        trained = learned(parent, exam, config, plain.model_copy(update={"names": (name,)}), seed)
        found["single"] |= trained.scores(questions)
        seconds["single"] += trained.report["seconds"]
    told("single", found["single"])
    for way, changes in WAYS.items():
        tasks = TasksConfig(names=names, steps_per_task=max(1, round(SHARE * steps)), rounds=ROUNDS, **changes)
        trained = learned(parent, exam, config, tasks, seed)
        found[way], seconds[way] = told(way, trained.scores(questions)), trained.report["seconds"]
    return {
        "scores": found,
        "seconds": seconds,
        "shares": trained.report["shares"],
        "merging": trained.report["merging"],
        "generation": generation(trained, exam, questions),
    }


def learned(parent: Checkpoint, exam: Exam, config: FoundationConfig, tasks: TasksConfig, seed: int) -> TrainedTasks:
    """A training of tasks on the exam's part."""
    return train_tasks(parent, exam.part, exam.catalogue, config, tasks, seed)


@torch.no_grad()
def base(parent: Checkpoint, names: tuple[str, ...], questions: Questions) -> dict[str, float]:
    """The scores of the model as it is."""
    tasks = [task_of(name, parent.model) for name in names]
    return {task.name: task.score(parent.model, questions.seen_by(task.view(questions.tokens))) for task in tasks}


@torch.no_grad()
def generation(trained: TrainedTasks, exam: Exam, questions: Questions) -> dict[str, dict[str, float]]:
    """Recall@10 of the tower, of generation, and of the first five of each together, by slice."""
    task, towers, model = trained.tasks["next_id"], trained.models["next_title"], trained.models["next_id"]
    assert isinstance(task, NextId)
    met, titles = task.met(questions), towers.known_titles()[1]
    scores = (towers.vectors(questions.states(towers)) @ titles.T).masked_fill(met, float("-inf"))
    tower = scores.topk(10, dim=1).indices
    members = model.vectors(questions.states(model)) * model.scale
    generated = task.generated(members, model.known_titles()[1], met, 10)
    union = torch.stack([first_ten(a, b) for a, b in zip(tower.tolist(), generated.tolist(), strict=True)])
    answers = (questions.targets() - 1)[:, None]
    ways = {"tower": tower, "generated": generated, "union": union}
    hits = {name: (found == answers).any(dim=1).numpy() for name, found in ways.items()}
    return {
        part: {"questions": int(chosen.sum()), **{name: float(hit[chosen].mean()) for name, hit in hits.items()}}
        for part, chosen in slices(exam, questions).items()
        if chosen.any()
    }


def first_ten(one: list[int], other: list[int]) -> torch.Tensor:
    """The first ten different titles of two lists, taken in turn."""
    turns = [title for pair in zip(one, other, strict=True) for title in pair if title >= 0]
    return torch.tensor(list(dict.fromkeys(turns))[:10] + [-1] * 10)[:10]


def slices(exam: Exam, questions: Questions) -> dict[str, np.ndarray]:
    """All answers; those outside the titles that make up half of all plays; those rarely met before."""
    plays = counts(exam.part, pa.array(exam.title_ids))
    order = np.argsort(-plays, kind="stable")
    ahead = np.empty(len(plays))
    ahead[order] = np.cumsum(plays[order]) - plays[order]
    answers = exam.queries.targets[questions.asked]
    rare = plays[answers] <= np.quantile(plays, 0.2)
    return {"all": np.ones(len(answers), bool), "tail": ahead[answers] >= plays.sum() / 2, "rare": rare}


def told(way: str, scores: dict[str, float]) -> dict[str, float]:
    """The scores, printed as soon as they are there."""
    print(f"{way:10s}" + "".join(f"  {task} {score:.4f}" for task, score in scores.items()), flush=True)
    return scores


def main() -> None:
    """All seeds of one kind of data; the whole as the last line with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--data", choices=("ratings", *SERVICES), help="default: small, or simulated in full")
    parser.add_argument("--lake", help="of ratings")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    steps, first = {"small": (5, 40), "full": (150, 600)}[args.size]
    training = {"min_steps": first, "max_steps": first, "validation_members": 300}
    config = FoundationConfig.model_validate({"training": training})
    runs = []
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            kind = args.data or {"small": "small", "full": "simulated"}[args.size]
            exam, names = data(kind, args.lake, folder, seed)
        runs.append(measured(exam, names, config, steps, seed))
    ratios = {
        way: {
            task: [run["scores"][way][task] / max(run["scores"]["single"][task], 1e-9) for run in runs]
            for task in names
        }
        for way in WAYS
    }
    for way, found in ratios.items():
        told(f"{way} ÷", {task: float(np.mean(values)) for task, values in found.items()})
    worst = min(np.mean(values) for values in ratios["merged"].values())
    cost = np.mean([run["seconds"]["merged"] / run["seconds"]["single"] for run in runs])
    print(f"seconds of the merged mixture, judging included: {cost:.2f} of the single-task trainings")
    result = {
        "stage": "tasks",
        "size": args.size,
        "ours": float(np.mean([run["seconds"]["merged"] for run in runs])),
        "floor": None,
        "peers": {"single": float(np.mean([run["seconds"]["single"] for run in runs]))},
        "unit": "seconds",
        "ratio_floor": None,
        "ratios": {"single": 1 / cost},
        "ratio_best_peer": 1 / cost,
        "quality": {"worst_task_to_single": float(worst), "ratios": ratios, "runs": runs},
    }
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
