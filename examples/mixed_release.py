"""What alignment is worth: today's members against yesterday's titles, of two trainings of one model.

Each member's last token is held out of a MovieLens lake, the model is trained twice with different
seeds, and HR@10 (all titles ranked, seen ones left out) is measured for every pairing of releases:

    python examples/mixed_release.py --data path/to/ml-latest-small [--json]
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alignment import AlignmentConfig, Anchors, Gram, fit
from embeddings.foundation import FoundationEncoder
from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.trainer import train
from embeddings.histories.job import HistoriesConfig, read_histories
from pipeline.arguments import format_table
from stores.lake.contract import Lake
from stores.lake.movielens import import_movielens

Matrix = NDArray[np.float32]
MIN_PLAYS = AlignmentConfig().min_plays


@dataclass(frozen=True)
class Questions:
    """Histories without their last token, the titles, and which title (a row of them) each member's last one was."""

    histories: pa.Table
    catalogue: pa.Table
    seen: list[NDArray[np.int64]]
    target: NDArray[np.int64]

    @classmethod
    def of(cls, histories: pa.Table, catalogue: pa.Table) -> "Questions":
        """Hold the last token of every member out; who has only one is not asked."""
        histories = histories.filter(pc.greater(pc.list_value_length(histories["title_id"]), 1))
        row = {title: place for place, title in enumerate(catalogue["title_id"].to_pylist())}
        lists = [[row[title] for title in titles] for titles in histories["title_id"].to_pylist()]
        columns = {
            name: pa.array([values[:-1] for values in histories[name].to_pylist()], histories.schema.field(name).type)
            if pa.types.is_list(histories.schema.field(name).type)
            else histories[name]
            for name in histories.column_names
        }
        shorter = pa.table(columns, schema=histories.schema)
        plays = np.bincount(np.concatenate([titles[:-1] for titles in lists]), minlength=len(row))
        place = catalogue.schema.get_field_index("plays")
        counted = catalogue.set_column(place, "plays", pa.array(plays, pa.int64()))
        seen = [np.array(titles[:-1], np.int64) for titles in lists]
        return cls(shorter, counted, seen, np.array([titles[-1] for titles in lists]))

    def hits(self, members: Matrix, titles: Matrix, k: int = 10) -> NDArray[np.bool_]:
        """For each member, whether the held-out title is among the best k of all that the member has not seen."""
        scores = members @ titles.T
        found = np.zeros(len(self.target), bool)
        for row, (seen, target) in enumerate(zip(self.seen, self.target, strict=True)):
            scores[row, seen] = -np.inf
            found[row] = (scores[row] > scores[row, target]).sum() < k and np.isfinite(scores[row, target])
        return found

    def hit_rate(self, members: Matrix, titles: Matrix, k: int = 10) -> float:
        """HR@k: the share of hits."""
        return float(self.hits(members, titles, k).mean())


def encode(questions: Questions, seed: int, models: str) -> tuple[Matrix, Matrix]:
    """Native vectors of members and titles from one training."""
    model = train(questions.histories, questions.catalogue, FoundationConfig(), seed, models)
    encoder = FoundationEncoder.load(model.path)
    return encoder.encode_members(questions.histories), encoder.encode_titles(questions.catalogue)


def title_weights(plays: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each title counts, as in the nightly job: by its plays, and not at all below `MIN_PLAYS`."""
    return np.asarray(np.where(plays >= MIN_PLAYS, np.maximum(plays, 1) ** AlignmentConfig().popularity, 0.0))


def measure(questions: Questions, native: list[tuple[Matrix, Matrix]]) -> list[dict[str, Any]]:
    """HR@10 of today's members against today's and yesterday's titles, for each mode of alignment."""
    rows = []
    for mode in ("off", "orthogonal", "canonical"):
        config = AlignmentConfig(mode=mode)
        weights = title_weights(questions.catalogue["plays"].to_numpy())
        grams = [(Gram.of(members), Gram.of(titles, weights)) for members, titles in native]
        opened = fit(*grams[0], None, config)
        before, yesterday = opened.members(native[0][0]), opened.titles(native[0][1])
        anchors = Anchors(native[1][1], yesterday, weights, native[1][0], before)
        today = fit(*grams[1], anchors, config)
        members, titles = today.members(native[1][0]), today.titles(native[1][1])
        own, mixed = questions.hit_rate(members, titles), questions.hit_rate(members, yesterday)
        rows.append({"alignment": mode, "own HR@10": own, "mixed HR@10": mixed, "kept": mixed / own})
    return rows


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description="Today's members against yesterday's titles.")
    parser.add_argument("--data", required=True, help="an unpacked MovieLens folder")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        lake = str(Path(scratch) / "lake")
        import_movielens(args.data, lake)
        questions = Questions.of(*read_histories(Lake.open(lake), datetime.now(UTC), HistoriesConfig()))
        native = [encode(questions, seed, str(Path(scratch) / "models")) for seed in (0, 1)]
        rows = measure(questions, native)
    print(json.dumps(rows) if args.json else format_table(rows))


if __name__ == "__main__":
    main()
