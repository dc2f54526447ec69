"""What alignment is worth downstream: rankers trained once, used on night after night of retrained models.

Ten nights, each a model trained from scratch with another seed and one more slice of time, go through the nightly
alignment job into Feast. Every night asks: do today's members fit the titles of the first night (`kept`, mixed ÷
own HR@10), do rankers trained on the first night's features still rank, and does the space stay where it was?

    python examples/downstream_ranker.py --data path/to/ml-latest-small [--nights 10] [--cache DIR] [--json]
"""

import argparse
import json
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from feast_nights import features, publish_night
from mixed_release import title_weights
from numpy.typing import NDArray
from rankers import HeadRanker, PairRanker, Pairs
from ten_nights import Matrix, Night, nights

from alignment import AlignmentConfig, Anchors, Gram, fit
from pipeline.arguments import format_table
from pipeline.ray_cluster import RayConfig, ray_cluster
from stores.releases.workspace import Workspace

MIN = AlignmentConfig().min_plays
Space = tuple[Matrix, Matrix]
"""Vectors of members and of titles, in the order of a night's ids."""


@dataclass
class Consumers:
    """Everything that was made from the first night and is never touched again."""

    night: Night
    spaces: dict[str, Space]
    rankers: dict[str, tuple[PairRanker, HeadRanker]]

    @classmethod
    def of(cls, night: Night, published: Space) -> "Consumers":
        """Keep the first night's vectors in each mode, and train on them."""
        spaces = {mode: placed(night, None, mode) for mode in ("orthogonal", "off")} | {"canonical": published}
        rankers = {mode: trained(night, spaces[mode], night.member_ids) for mode in ("canonical", "off")}
        return cls(night, spaces, rankers)

    def visit(self, night: Night, published: Space) -> tuple[dict[str, Any], dict[str, NDArray[np.bool_]]]:
        """A night's line of the table, and the hits behind it."""
        today = {mode: placed(night, self, mode) for mode in ("orthogonal", "off")} | {"canonical": published}
        hits = {mode: night.questions.hits(today[mode][0], self._titles(night, mode)) for mode in today}
        hits["own"] = night.questions.hits(*published)
        line: dict[str, Any] = {"own": float(hits["own"].mean())}
        line |= {f"kept {mode}": float(hits[mode].mean() / hits["own"].mean()) for mode in today}
        members = self.night.member_ids
        pairs = Pairs.of(night, members)
        for mode, name in (("canonical", "aligned"), ("off", "unaligned")):
            pair, head = self.rankers[mode]
            line |= {f"pairs {name}": pair.score(pairs, today[mode][0])}
            line |= {f"heads {name}": head.score(night, today[mode][0])}
        pair, head = trained(night, published, members)
        line |= {"pairs refitted": pair.score(pairs, published[0]), "heads refitted": head.score(night, published[0])}
        return line, hits

    def _titles(self, night: Night, mode: str) -> Matrix:
        """The first night's titles, in the order of a later night's."""
        row = {title: place for place, title in enumerate(self.night.title_ids.tolist())}
        return self.spaces[mode][1][[row[title] for title in night.title_ids.tolist()]]


def trained(night: Night, space: Space, members: NDArray[np.int64]) -> tuple[PairRanker, HeadRanker]:
    """Both rankers of a night."""
    return PairRanker(Pairs.of(night, members), *space), HeadRanker(night, space[0], members)


def placed(night: Night, first: Consumers | None, mode: Any) -> Space:
    """A night's vectors in the space that the first night opened in some mode, without the judge's veto."""
    config, anchors = AlignmentConfig(mode=mode), None
    grams = Gram.of(night.members[night.lengths >= MIN]), Gram.of(night.titles, title_weights(night.plays))
    if first:
        weights = title_weights(night.plays) * (first.night.plays >= MIN)
        _, then, now = np.intersect1d(first.night.member_ids, night.member_ids, return_indices=True)
        members, titles = first.spaces[mode]
        anchors = Anchors(night.titles, titles, weights, night.members[now], members[then])
    transform = fit(*grams, anchors, config)
    return transform.members(night.members), transform.titles(night.titles)


def run(data: str, count: int, cache: str) -> dict[str, Any]:
    """All nights, one after the other; lines of the table and the summary."""
    lines, hits, first = [], [], None
    with ExitStack() as stack:
        workspace = Workspace.open(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(ray_cluster(RayConfig(num_cpus=1)))
        for number, night in enumerate(nights(data, count, cache)):
            live = publish_night(workspace, night, number)
            space = (
                features(workspace, "member", night.member_ids, live.live_at),
                features(workspace, "title", night.title_ids, live.live_at),
            )
            if first is None:
                first = Consumers.of(night, space)
                continue
            line, found = first.visit(night, space)
            metrics = live.report.metrics
            line |= {"cosine": metrics["heldout_cosine_p50"], "gauge": gauge(first, night, space)}
            lines.append({"night": number, **line})
            hits.append((night.member_ids, found))
    return {"nights": lines, "summary": summary(lines, hits)}


def gauge(first: Consumers, night: Night, space: Space) -> float:
    """Share of the titles' agreement with the first night that another rotation could still win, 0 if there is none.

    C = TᵀT₀; agreement as it is is tr C, the best rotation's Σσ(C). It grows where the space turns from night to night.
    """
    weights = title_weights(night.plays) * (first.night.plays >= MIN)
    C = (space[1] * weights[:, None]).T.astype(np.float64) @ first.spaces["canonical"][1]
    return float(1 - np.trace(C) / np.linalg.svd(C, compute_uv=False).sum())


def summary(lines: list[dict[str, Any]], hits: list[tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    """Means over the nights, with 95 % intervals of `kept` over members and nights drawn with replacement."""
    everyone = np.unique(np.concatenate([ids for ids, _ in hits]))
    draws = np.random.default_rng(0)
    picks = [(draws.integers(len(hits), size=len(hits)), draws.integers(len(everyone), size=len(everyone)))
             for _ in range(2000)]  # fmt: skip
    counts = {name: spread(everyone, hits, name) for name in hits[0][1]}
    found: dict[str, Any] = {}
    for mode in ("canonical", "orthogonal", "off"):
        ratios = [counts[mode][np.ix_(*pick)].sum() / counts["own"][np.ix_(*pick)].sum() for pick in picks]
        low, high = np.quantile(ratios, [0.025, 0.975])
        found[f"kept {mode}"] = [float(counts[mode].sum() / counts["own"].sum()), float(low), float(high)]
    for ranker in ("pairs", "heads"):
        mean = {name: float(np.mean([line[f"{ranker} {name}"] for line in lines]))
                for name in ("aligned", "refitted", "unaligned")}  # fmt: skip
        found[ranker] = mean | {"aligned ÷ refitted": mean["aligned"] / mean["refitted"]}
    for name in ("gauge", "cosine"):
        found[f"{name} per night"] = slope([line[name] for line in lines])
    return found


def spread(everyone: NDArray[np.int64], hits: list[tuple[Any, dict[str, Any]]], name: str) -> NDArray[np.float64]:
    """Hits as (nights, members), 0 where a member was not there yet."""
    found = np.zeros((len(hits), len(everyone)))
    for row, (ids, by_name) in enumerate(hits):
        found[row, np.searchsorted(everyone, ids)] = by_name[name]
    return found


def slope(values: list[float]) -> list[float]:
    """Change per night and its standard error; three nights or more."""
    if len(values) < 3:
        return [float("nan"), float("nan")]
    (at, _), covariance = np.polyfit(np.arange(len(values)), values, 1, cov="unscaled")
    left = np.asarray(values) - np.polyval(np.polyfit(np.arange(len(values)), values, 1), np.arange(len(values)))
    return [float(at), float(np.sqrt(covariance[0, 0] * (left**2).sum() / (len(values) - 2)))]


def picture(found: dict[str, Any], path: str) -> None:
    """Both rankers over the nights, as lines. Needs matplotlib (the extra `bench`)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, ranker in zip(figure.subplots(1, 2, sharey=True), ("pairs", "heads"), strict=True):
        for name in ("refitted", "aligned", "unaligned"):
            axes.plot([n["night"] for n in found["nights"]], [n[f"{ranker} {name}"] for n in found["nights"]],
                      marker="o", label=name)  # fmt: skip
        axes.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
        axes.set(title=f"ranker of {ranker}", xlabel="nights since it was trained", ylabel="AUC")
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Run the nights and print what their consumers see."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="an unpacked MovieLens folder")
    parser.add_argument("--nights", type=int, default=10, help="nights after the first one (default: 10)")
    parser.add_argument("--cache", help="a folder that keeps the trained vectors for another run")
    parser.add_argument("--picture", metavar="FILE", help="also draw the rankers' scores (svg, png)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = run(args.data, args.nights, args.cache or str(Path(scratch)))
    if args.picture:
        picture(found, args.picture)
    if args.json:
        print(json.dumps(found))
        return
    print(format_table(found["nights"]))
    print(json.dumps(found["summary"], indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
