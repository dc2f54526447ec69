"""Ablation: what each optional part of the foundation model is worth, on the slice that it is for.

Three kinds of data: `ratings`, a lake that is given (ml-latest-small), asked for the last three new titles of each
member; `sparse`, a simulated service of short histories, and `dense`, one of long ones, asked for what is newly
met in the last days (a time split). Each variant trains on the same part in as many steps and answers the same
questions as the default: differences are paired by question, their 95 % intervals take members as drawn at random.
They know nothing of the luck of a training, which `again` shows: the default with another seed. What is measured is in
`ablation_slices.py`. Figures go to `--out`, one line each; what is there already is not measured again.

    python benchmarks/ablation.py --data sparse --out figures.jsonl
    python benchmarks/ablation.py --data ratings --lake LAKE --only hstu no_nested --seeds 1 --out figures.jsonl
"""

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ablation_slices import Slice, difference, last_three, measure

from embeddings.foundation import FoundationEncoder, train
from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.evaluation_splits import EvalSplit, time_split
from embeddings.histories.job import HistoriesConfig, read_histories
from embeddings.histories.propensity import with_propensity
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate

Changes = dict[str, dict[str, Any]]
SERVICES = {
    "sparse": {"members": 6000, "titles": 1500, "days": 60, "clusters": 20, "sessions_per_day": 0.06},
    "dense": {"members": 500, "titles": 500, "days": 240, "clusters": 16, "sessions_per_day": 0.6},
}
STEPS = {"ratings": 400, "sparse": 200, "dense": 300}
"""Eight to eleven passes over each: most of what a whole training gains, in a few minutes for each dozen variants."""
TEST_SHARE = 0.15
TAUGHT = {"aux_gradient_fraction": 0.2}
VARIANTS: dict[str, tuple[str, Changes]] = {
    "again": ("ndcg", {}),
    "hstu": ("ndcg", {"network": {"block_type": "hstu"}}),
    "no time bias": ("ndcg", {"network": {"time_bias": False}}),
    "no nested targets": ("half", {"training": {"matryoshka": False}}),
    "hierarchical head": ("genre", {"network": {"hierarchical": True}}),
    "genre head teaches": ("genre", {"training": {**TAUGHT, "aux_heads": ("genres",)}}),
    "language head teaches": ("ndcg", {"training": {**TAUGHT, "aux_heads": ("language",)}}),
    "engagement head teaches": ("through", {"training": {**TAUGHT, "aux_heads": ("watched",)}}),
    "no content vectors": ("cold", {"network": {"content": False}}),
    "no merging": ("ndcg", {"histories": {"merge_gap_minutes": 0.0}}),
    "no engagement weights": ("through", {"training": {"engagement_weights": False}}),
    "future window 12-72 h": ("48h", {"training": {"future_target_fraction": 0.3}}),
    "future window 0-72 h": ("48h", {"training": {"future_target_fraction": 0.3, "future_window_hours": (0.0, 72.0)}}),
    "hstu, 4 blocks": ("ndcg", {"network": {"block_type": "hstu", "num_layers": 4}}),
    "no metadata": ("cold", {"network": {"metadata": False, "content": False}}),
    "exposure weights": ("tastes", {"training": {"max_ips_weight": 5.0}}),
    "no stand-in": ("neighbours", {"training": {"cold_start_loss_weight": 0.0}}),
    "window of 16": ("ndcg", {"network": {"max_positions": 16}}),
    "window of 16, 4 latents": ("ndcg", {"network": {"max_positions": 16, "latents": 4}}),
    "512 draws": ("ndcg", {"training": {"max_full_softmax_titles": 0, "num_negatives": 512}}),
    "no spectral start": ("ndcg", {"training": {"ppmi_init": False}}),
}
NOT_IN = {
    "ratings": ("content", "engagement", "exposure", "language", "merging", "stand-in"),
    "sparse": ("window of 16",),
    "dense": (),
}
"""What data have nothing for: parts of the names of variants."""


def config_of(changes: Changes, steps: int) -> FoundationConfig:
    """The default with a variant's changes and a fixed number of steps, five validations among them."""
    training = {"min_steps": steps, "max_steps": steps, "num_validations": 5, "patience": 5}
    return FoundationConfig.model_validate(
        {"network": changes.get("network", {}), "training": {**training, **changes.get("training", {})}}
    )


def exam_of(data: str, lake: Lake, changes: Changes) -> EvalSplit:
    """The questions that a lake asks; histories carry what was shown."""
    config, now = HistoriesConfig(**changes.get("histories", {})), datetime.now(UTC)
    histories, catalogue = read_histories(lake, now, config)
    if data == "ratings":
        return last_three(histories, catalogue)
    return time_split(with_propensity(histories, lake, now, config.scan), catalogue, test_share=TEST_SHARE)


class Study:
    """Trainings on one lake, and the default of each seed, which they are set against."""

    def __init__(self, data: str, path: str, steps: int, seeds: int) -> None:
        self.data, self.lake, self.truth, self.steps = data, Lake.open(path), Path(path) / "_truth", steps
        self.usual, self.seeds = exam_of(data, self.lake, {}), range(seeds)
        self.default = [self.trained({}, seed) for seed in self.seeds]

    def trained(self, changes: Changes, seed: int) -> tuple[dict[str, Slice], float]:
        """What one training comes to, and the processor seconds that it took."""
        exam = exam_of(self.data, self.lake, changes) if "histories" in changes else self.usual
        with tempfile.TemporaryDirectory() as folder:
            begun = time.process_time()
            model = train(exam.train_part, exam.catalogue, config_of(changes, self.steps), seed, folder)
            spent = time.process_time() - begun
            return measure(exam, FoundationEncoder.load(model.path), self.truth), spent

    def compared(self, name: str) -> dict[str, Any]:
        """A variant beside the default: of each slice the mean, the difference, half of its interval."""
        shift = len(self.seeds) if name == "again" else 0
        if name == "default":
            runs = self.default
        else:
            runs = [self.trained(VARIANTS[name][1], seed + shift) for seed in self.seeds]
        slices = {
            column: [
                sum(run[0][column].mean for run in runs) / len(runs),
                *difference(*([run[0][column] for run in some] for some in (runs, self.default))),
            ]
            for column in runs[0][0]
        }
        seconds = sum(run[1] for run in runs) / sum(run[1] for run in self.default)
        return {"data": self.data, "variant": name, "seeds": len(runs), "slices": slices, "seconds": seconds}


def table(figures: list[dict[str, Any]]) -> str:
    """A Markdown table: per variant and kind of data the difference in `ndcg`, and in the slice that it is for."""
    found = {(figure["variant"], figure["data"]): figure for figure in figures}
    kinds = [kind for kind in STEPS if ("default", kind) in found]
    base = " | ".join(f"{found['default', kind]['slices']['ndcg'][0]:.3f}" for kind in kinds)
    lines = [f"| variant | {' | '.join(kinds)} | time |", "|---" * (len(kinds) + 2) + "|", f"| default | {base} | 1 |"]
    for name, (own, _) in VARIANTS.items():
        rows = [found[name, kind] for kind in kinds if (name, kind) in found]
        if not rows:
            continue
        cells = [cell(found[name, kind], own) if (name, kind) in found else "" for kind in kinds]
        spent = sum(row["seconds"] for row in rows) / len(rows)
        lines.append(f"| {name} | {' | '.join(cells)} | {spent:.2f} |")
    return "\n".join(lines)


def cell(figure: dict[str, Any], own: str) -> str:
    """What one variant did on one kind of data."""
    slices = figure["slices"]
    told = f"{slices['ndcg'][1]:+.4f} ± {slices['ndcg'][2]:.4f}"
    if own == "ndcg" or own not in slices:
        return told
    mean, apart, half = slices[own]
    return f"{told}; {own} {mean - apart:.3f} → {mean:.3f} ± {half:.3f}"


def main() -> None:
    """Train and measure every variant on one kind of data, or print the table of all that was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=["ratings", *SERVICES], default="sparse")
    parser.add_argument("--lake", help="for ratings: a folder")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), help="variants (default: all that the data have)")
    parser.add_argument("--steps", type=int, help=f"of every training (default: {STEPS})")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", default="ablation.jsonl", help="figures are added to this file")
    parser.add_argument("--table", action="store_true", help="only print what is in that file as a table")
    args = parser.parse_args()
    figures = [json.loads(line) for line in Path(args.out).read_text().splitlines()] if Path(args.out).exists() else []
    if args.table:
        print(table(figures))
        return
    there = [figure["variant"] for figure in figures if figure["data"] == args.data]
    asked = args.only or [name for name in VARIANTS if not any(part in name for part in NOT_IN[args.data])]
    with tempfile.TemporaryDirectory() as folder, Path(args.out).open("a") as out:
        path = args.lake or f"{folder}/lake"
        if not args.lake:
            simulate(path, SimulationConfig(**SERVICES[args.data]))
        study = Study(args.data, path, args.steps or STEPS[args.data], args.seeds)
        for name in [name for name in ("default", *asked) if name not in there]:
            figure = study.compared(name)
            print(name, {column: round(values[0], 4) for column, values in figure["slices"].items()}, flush=True)
            out.write(json.dumps(figure) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
