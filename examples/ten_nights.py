"""Nights of freshly retrained models on a MovieLens lake: every night another seed and one more slice of time.

Used by the examples that ask what downstream users see. The last token of every member is held out each
night, so that a night's vectors never saw what they are asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from mixed_release import Questions, encode
from numpy.typing import NDArray

from embeddings.histories.job import HistoriesConfig, read_histories
from stores.files.filesystem import Storage
from stores.lake.contract import Lake
from stores.lake.movielens import import_movielens

FIRST, LAST = 0.90, 1.00
"""Share of all events that the first and the last of the nights know."""

Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Night:
    """What one training gives: native vectors (n, e) of `member_ids` and (m, e) of `title_ids`, as of `moment`."""

    moment: datetime
    questions: Questions
    members: Matrix
    titles: Matrix

    @property
    def member_ids(self) -> NDArray[np.int64]:
        """Ids of the rows of `members`."""
        return np.asarray(self.questions.histories["member_id"].to_numpy())

    @property
    def title_ids(self) -> NDArray[np.int64]:
        """Ids of the rows of `titles`."""
        return np.asarray(self.questions.catalogue["title_id"].to_numpy())

    @property
    def plays(self) -> NDArray[np.int64]:
        """Plays of each title that the training saw."""
        return np.asarray(self.questions.catalogue["plays"].to_numpy())

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each member that the training saw."""
        return np.array([len(seen) for seen in self.questions.seen])


def nights(data: str, count: int, cache: str) -> Iterator[Night]:
    """Night 0 and `count` more, trained one after the other; `cache` keeps the lake and every night's vectors."""
    lake = str(Path(cache) / "lake")
    if not Path(lake).exists():
        import_movielens(data, lake)
    times = ratings(lake)["event_time"]
    for number in range(count + 1):
        share = FIRST + (LAST - FIRST) * number / 10
        moment = times[round(share * (len(times) - 1))].as_py().astimezone(UTC)
        yield _night(lake, number, moment, Path(cache))


def ratings(lake: str) -> pa.Table:
    """All ratings of the lake, oldest first: `member_id`, `title_id`, `event_time`, `value`."""
    columns = ["member_id", "title_id", "event_time", "value"]
    table = Storage(lake).dataset("interactions").to_table(columns=columns)
    return table.filter(pc.is_valid(table["value"])).sort_by([("event_time", "ascending"), ("member_id", "ascending")])


def _night(lake: str, seed: int, moment: datetime, cache: Path) -> Night:
    questions = Questions.of(*read_histories(Lake.open(lake), moment, HistoriesConfig()))
    kept = cache / f"night-{seed:02d}.npz"
    if not kept.exists():
        members, titles = encode(questions, seed, str(cache / "models"))
        np.savez(kept, members=members, titles=titles)
    found: Any = np.load(kept)
    return Night(moment, questions, found["members"], found["titles"])
