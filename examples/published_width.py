"""What a narrower space costs: HR@10 of the published vectors against their width, over several trainings.

python examples/published_width.py --data path/to/ml-latest-small [--trainings 3] [--cache DIR] [--json]
"""

import argparse
import json
import tempfile
from typing import Any

import numpy as np
from mixed_release import MIN_PLAYS, title_weights
from numpy.typing import NDArray
from ten_nights import Night, nights

from alignment import AlignmentConfig, Gram, fit
from pipeline.arguments import format_table

WIDTHS = (64, 48, 32, 16, 8)
DRAWS = 2000


def measure(night: Night, width: int) -> tuple[NDArray[np.bool_], float]:
    """Hits of the members at one width, and the energy kept."""
    gram_m = Gram.of(night.members[night.lengths >= MIN_PLAYS])
    gram_t = Gram.of(night.titles, title_weights(night.plays))
    transform = fit(gram_m, gram_t, None, AlignmentConfig(rank=width))
    hits = night.questions.hits(transform.members(night.members), transform.titles(night.titles))
    return hits, transform.energy_kept


def compare(trainings: list[Night]) -> list[dict[str, Any]]:
    """One line for each width; `kept` is its hits ÷ those of the full width, with a 95 % interval.

    The interval draws members with replacement, each with all of its trainings.
    """
    everyone = np.unique(np.concatenate([night.member_ids for night in trainings]))
    place = [np.searchsorted(everyone, night.member_ids) for night in trainings]
    picks = np.random.default_rng(0).integers(len(everyone), size=(DRAWS, len(everyone)))
    lines, full = [], np.zeros(len(everyone))
    for width in WIDTHS:
        found = [measure(night, width) for night in trainings]
        hits = np.zeros(len(everyone))
        for rows, (one, _) in zip(place, found, strict=True):
            hits[rows] += one
        full = hits if width == WIDTHS[0] else full
        low, high = np.quantile(hits[picks].sum(axis=1) / full[picks].sum(axis=1), [0.025, 0.975])
        asked = sum(len(rows) for rows in place)
        lines.append({"width": width, "energy kept": float(np.mean([energy for _, energy in found])),
                      "HR@10": float(hits.sum() / asked), "kept": float(hits.sum() / full.sum()),
                      "from": float(low), "to": float(high)})  # fmt: skip
    return lines


def main() -> None:
    """Train, cut, and print the table."""
    parser = argparse.ArgumentParser(description="HR@10 against published width.")
    parser.add_argument("--data", required=True, help="an unpacked MovieLens folder")
    parser.add_argument("--trainings", type=int, default=3, help="how many trainings to average (default: 3)")
    parser.add_argument("--cache", help="a folder that keeps the trained vectors for another run")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        lines = compare(list(nights(args.data, args.trainings - 1, args.cache or scratch)))
    print(json.dumps(lines) if args.json else format_table(lines))


if __name__ == "__main__":
    main()
