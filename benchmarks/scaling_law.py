"""Scaling: how quality follows parameters, data and context length, with a power law fitted to each.

One thing grows at a time: the width of both towers, the share of the members, the positions seen at once; the rest
stays at the largest. Of every training the weights are kept that its own validation finds best. Quality is the mean
log₂ rank of the last titles of those members who are in every training, among all titles: what is left to say of a
title, in bits. (The likelihood would measure how well a training of so few steps has found its temperature.) A title
that a training has not met takes its vector from metadata. Fitted is bits = floor + amplitude · x^−exponent, the form
of Kaplan et al. 2020 and Hoffmann et al. 2022. Needs the extra [bench].

    python benchmarks/scaling_law.py --size small --picture scaling.svg
"""

import argparse
import json
import math
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.foundation import checkpoint
from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.encoder import FoundationEncoder
from embeddings.foundation.evaluation_queries import build_queries
from embeddings.foundation.evaluation_splits import EvalSplit, leave_one_out
from embeddings.foundation.metrics import inner_product_scorer, rank_titles
from embeddings.foundation.trainer import train
from embeddings.histories.job import HistoriesConfig, read_histories
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.schema import TITLE_ID


@dataclass(frozen=True)
class Size:
    """A simulated lake, a bound on the steps of a training, and the values of each axis, the largest last."""

    lake: tuple[int, int, int]
    steps: int
    axes: dict[str, tuple[float, ...]]


SIZES = {
    "small": Size((200, 100, 20), 40, {"width": (8, 16, 32), "share": (0.25, 0.5, 1), "max_positions": (4, 8, 16)}),
    "full": Size(
        (3000, 600, 90),
        600,
        {"width": (8, 16, 32, 64), "share": (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1), "max_positions": (4, 8, 16, 32, 64)},
    ),
}
STEEPEST = 3.0
"""Exponents beyond it are noise: published ones are below one."""
NAMES = {
    "width": "parameters of the transformer",
    "share": "tokens learned from",
    "max_positions": "positions seen at once",
}


class Ladder:
    """An exam, and trainings of any size for it."""

    def __init__(self, exam: EvalSplit, size: Size) -> None:
        self.exam, self.size = exam, size
        self.order = np.random.default_rng(0).random(len(exam.train_part)).argsort().argsort() / len(exam.train_part)
        owners = np.searchsorted(
            np.cumsum(pc.list_value_length(exam.histories[TITLE_ID])), exam.query_positions, side="right"
        )
        asked = exam.query_positions[(self.order < size.axes["share"][0])[owners]]
        self.queries = build_queries(exam.histories, exam.title_ids, asked)

    def climb(self, width: float, share: float, length: float) -> dict[str, float]:
        """What a training of this size had on each axis, and its "bits"."""
        network = {"dim": int(width), "width": int(width), "max_positions": int(length)}
        training = {"min_steps": min(1000, self.size.steps), "max_steps": self.size.steps, "patience": 20}
        config = FoundationConfig.model_validate({"network": network, "training": training})
        part = self.exam.train_part.filter(pa.array(self.order < share))
        with tempfile.TemporaryDirectory() as folder:
            trained = train(part, self.exam.catalogue, config, 0, Path(folder))
            bits = self._bits(FoundationEncoder.load(trained.path))
            body = checkpoint.load_checkpoint(trained.path)[0].model.transformer
        weights = sum(weight.numel() for weight in body.parameters())
        tokens = pc.sum(pc.list_value_length(part[TITLE_ID])).as_py()
        print(f"width {width}, share {share:.3f}, length {length}: {bits:.3f} bits", flush=True)
        return {"width": weights, "share": tokens, "max_positions": length, "bits": bits}

    def _bits(self, encoder: FoundationEncoder) -> float:
        members = encoder.encode_members(self.queries.histories)
        titles = encoder.encode_titles(self.exam.candidates)
        ranking = rank_titles(inner_product_scorer(members, titles), self.queries, len(titles))
        return float(np.log2(ranking.ranks + 1.0).mean())


def power_law(x: np.ndarray, bits: np.ndarray) -> dict[str, float]:
    """A line through log(bits − floor) for the floor that leaves the least error; nothing where no law is seen."""
    best: dict[str, float] = {}
    for floor in np.linspace(0, bits.min() * 0.999, 400):
        slope, start = np.polyfit(np.log(x), np.log(bits - floor), 1)
        error = float(((floor + np.exp(start + slope * np.log(x)) - bits) ** 2).mean() ** 0.5)
        if 0 < -slope <= STEEPEST and error < best.get("error", math.inf):
            best = {"floor": floor, "exponent": -slope, "amplitude": math.exp(start), "error": error}
    return {name: float(value) for name, value in best.items()}


def picture(points: dict[str, np.ndarray], laws: dict[str, dict[str, float]], path: str) -> None:
    """One panel for each axis: what was measured, and the law."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot, ticker

    figure, panels = pyplot.subplots(1, len(points), figsize=(12, 4), sharey=True, layout="constrained")
    for panel, (axis, found) in zip(panels, points.items(), strict=True):
        panel.plot(found[:, 0], found[:, 1], "o", color="black")
        law = laws[axis]
        if "floor" in law:
            x = np.geomspace(found[0, 0], found[-1, 0], 100)
            label = f"{law['floor']:.2f} + {law['amplitude']:.3g} · $x^{{-{law['exponent']:.2f}}}$"
            panel.plot(x, law["floor"] + law["amplitude"] * x ** -law["exponent"], label=label)
            panel.legend()
        panel.set(xscale="log", xlabel=NAMES[axis], xticks=found[:, 0])
        panel.xaxis.set(major_formatter=ticker.EngFormatter(places=0, sep=""), minor_locator=ticker.NullLocator())
    panels[0].set_ylabel("log₂ rank of the next title, bits")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def measured(size: Size) -> tuple[dict[str, np.ndarray], float]:
    """(values, 2) of x and bits for each axis, and the bits of guessing."""
    with tempfile.TemporaryDirectory() as folder:
        members, titles, days = size.lake
        simulate(f"{folder}/lake", SimulationConfig(members=members, titles=titles, days=days))
        ladder = Ladder(
            leave_one_out(*read_histories(Lake.open(f"{folder}/lake"), datetime.now(UTC), HistoriesConfig())), size
        )
    largest = {axis: values[-1] for axis, values in size.axes.items()}
    top = ladder.climb(**largest)
    found = {}
    for axis, values in size.axes.items():
        steps = [ladder.climb(**{**largest, axis: value}) for value in values[:-1]] + [top]
        found[axis] = np.array([(step[axis], step["bits"]) for step in steps])
        print(f"{NAMES[axis]}: " + ", ".join(f"{x:,.0f} → {bits:.3f}" for x, bits in found[axis]), flush=True)
    return found, float(np.log2(np.arange(len(ladder.exam.candidates)) + 1.0).mean())


def main() -> None:
    """Train the ladder, fit, draw where asked, and print all as the last line with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--picture", metavar="FILE", help="draw the laws into this file")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    points, guess = measured(SIZES[args.size])
    laws = {axis: power_law(*found.T) for axis, found in points.items()}
    if args.picture:
        picture(points, laws, args.picture)
    ours = float(points["width"][-1, 1])
    result: dict[str, Any] = {
        "stage": "scaling_law",
        "size": args.size,
        "ours": ours,
        "floor": guess,
        "peers": {},
        "unit": "bits, less is better",
        "ratio_floor": guess / ours,
        "ratios": {},
        "ratio_best_peer": None,
        "quality": {"laws": laws, "points": {axis: found.tolist() for axis, found in points.items()}},
    }
    for axis, law in laws.items():
        print(f"{NAMES[axis]}: " + ", ".join(f"{name} {value:.4g}" for name, value in law.items()))
    if args.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
