"""Lakes as other people write them, through the command line: the right outcome for each, never a crash.

Every lake here is the simulated one written in another way, so that what must come out is known: the same rows less
those that cannot be right. `train`, `plan` and `nightly` see each; lakes that may go on share one night.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from embeddings.histories.job import HistoriesConfig, read_histories
from pipeline.arguments import parse_time
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.releases.release import Release

SHORT = ("--set", "train.training.min_steps=3", "--set", "train.training.max_steps=3")
AS_OF = "2026-12-01"
Tables = dict[str, pa.Table]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The tables of a small service, events in the order of their times."""
    place = tmp_path_factory.mktemp("sound") / "lake"
    simulate(str(place), SimulationConfig(members=120, titles=60, days=12, seed=5))
    found = {
        name: ds.dataset(place / name, partitioning="hive").to_table().combine_chunks()
        for name in ("interactions", "titles")
    }
    return {**found, "interactions": found["interactions"].drop_columns(["date"]).sort_by("event_time")}


def put(table: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


def cast(table: pa.Table, name: str, kind: pa.DataType, safe: bool = True) -> pa.Table:
    return put(table, name, pc.cast(table[name], kind, safe=safe))


class Writer:
    """Writes one lake: `early` and `late` are the halves of the events."""

    def __init__(self, place: Path, sound: Tables) -> None:
        self.place, self.events, self.titles = place, sound["interactions"], sound["titles"]
        half = len(self.events) // 2
        self.early, self.late = self.events.slice(0, half), self.events.slice(half)

    def write(self, path: str, table: pa.Table) -> Path:
        target = self.place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, target)
        return target

    def events_of(self, **parts: pa.Table) -> None:
        for name, part in parts.items():
            self.write(f"interactions/{name}.parquet", part)
        if not (self.place / "titles").exists():
            self.write("titles/part-0.parquet", self.titles)

    def vectors(self) -> list[Any]:
        return [list(vector) if vector else None for vector in self.titles["embedding"].to_pylist()]

    def with_vectors(self, vectors: list[Any]) -> None:
        self.write("titles/part-0.parquet", put(self.titles, "embedding", pa.array(vectors, pa.list_(pa.float32()))))
        self.events_of(all=self.events)


def other_ids(writer: Writer, kind: pa.DataType) -> None:
    """The first half of the members as text, the second in another form."""
    writer.events_of(early=cast(writer.early, "member_id", pa.string()), late=cast(writer.late, "member_id", kind))


def ids_as_text_bytes(writer: Writer) -> None:
    events = cast(cast(writer.events, "member_id", pa.string()), "member_id", pa.binary())
    writer.events_of(all=cast(events, "action", pa.binary()))


def a_log_of_delta(writer: Writer) -> None:
    writer.events_of(early=writer.early, late=writer.late, removed=writer.late)
    log = writer.place / "interactions" / "_delta_log"
    log.mkdir()
    (log / f"{1:020}.json").write_text(json.dumps({"remove": {"path": "removed.parquet", "deletionTimestamp": 1}}))


def durations(writer: Writer) -> None:
    micros = pc.cast(pc.multiply(writer.events["duration_s"], 1e6), pa.int64(), safe=False)
    writer.events_of(all=put(writer.events, "duration_s", pc.cast(micros, pa.duration("us"))))


def no_ending(writer: Writer) -> None:
    writer.events_of(early=writer.early)
    writer.write("interactions/000001_0", writer.late)


def an_impossible_time(writer: Writer) -> None:
    counts = pc.cast(writer.events["event_time"], pa.int64()).to_pylist()
    counts[5] = -(1 << 63)
    times = pa.array(counts, pa.int64()).view(pa.timestamp("us", "UTC"))
    writer.events_of(all=put(writer.events, "event_time", times))


def launched_never(writer: Writer) -> None:
    writer.events_of(all=writer.events)
    launch = pa.array([253_402_214_400_000_000], pa.timestamp("us", "UTC"))
    writer.write("titles/part-1.parquet", pa.table({"title_id": [10**6], "name": ["soon"], "launch_time": launch}))


def a_latin1_byte(writer: Writer, column: str = "action") -> None:
    cells = [b"\xe9t\xe9", *((one or "").encode() for one in writer.events[column].to_pylist()[1:])]
    raw = pa.array(cells, pa.binary())
    writer.events_of(all=put(writer.events, column, pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())))


def a_link(writer: Writer) -> None:
    writer.events_of(early=writer.early)
    elsewhere = writer.place.parent / "elsewhere.parquet"
    pq.write_table(writer.late, elsewhere)
    (writer.place / "interactions" / "late.parquet").symlink_to(elsewhere)


def a_nan_in_a_vector(writer: Writer) -> None:
    vectors = writer.vectors()
    vectors[3][0] = float("nan")
    writer.with_vectors(vectors)


def an_empty_vector(writer: Writer) -> None:
    writer.with_vectors([[], *writer.vectors()[1:]])


def a_short_vector(writer: Writer) -> None:
    writer.with_vectors([[1.0, 2.0], *writer.vectors()[1:]])


def nan_values(writer: Writer) -> None:
    lasted = pa.array([float("nan"), float("inf"), *writer.events["duration_s"].to_pylist()[2:]], pa.float64())
    writer.events_of(all=put(writer.events, "duration_s", lasted))


def own_actions(writer: Writer) -> None:
    writer.events_of(all=put(writer.events, "action", pc.replace_substring(writer.events["action"], "play", "listen")))


RIGHT: dict[str, tuple[Callable[[Writer], None], int]] = {
    "float_ids": (lambda writer: other_ids(writer, pa.float64()), 0),
    "decimal_ids": (lambda writer: other_ids(writer, pa.decimal128(38, 2)), 0),
    "ids_as_text_bytes": (ids_as_text_bytes, 0),
    "durations": (durations, 0),
    "no_ending": (no_ending, 0),
    "an_impossible_time": (an_impossible_time, 1),
    "launched_never": (launched_never, 0),
    "a_latin1_byte": (a_latin1_byte, 1),
    "a_latin1_device": (lambda writer: a_latin1_byte(writer, "device"), 0),
    "a_link": (a_link, 0),
    "a_nan_in_a_vector": (a_nan_in_a_vector, 0),
    "an_empty_vector": (an_empty_vector, 0),
    "a_short_vector": (a_short_vector, 0),
    "nan_values": (nan_values, 0),
}
"""The writer of each lake, and how many of its rows are refused."""

REFUSED = {"a_log_of_delta": (a_log_of_delta, "Delta Lake"), "own_actions": (own_actions, "unknown action")}


def written(name: str, place: Path, sound: Tables) -> Path:
    writer = Writer(place / "lake", sound)
    (RIGHT[name][0] if name in RIGHT else REFUSED[name][0])(writer)
    return writer.place


@pytest.mark.parametrize("name", RIGHT)
def test_a_lake_of_another_hand_is_the_same_lake(name: str, tmp_path: Path, sound: Tables, here: Any) -> None:
    """The same members and events, less the rows that are refused."""
    lake = written(name, tmp_path, sound)
    refused = RIGHT[name][1]
    planned = here("plan", "--lake", str(lake), "--as-of", AS_OF, cwd=tmp_path)
    events = sound["interactions"]
    assert planned["work"]["members"] == len(pc.unique(events["member_id"]))
    histories, catalogue = read_histories(Lake.open(str(lake)), parse_time(AS_OF), HistoriesConfig())
    whole, titles = _read(sound, tmp_path / "sound")
    assert sum(map(sum, histories["events"].to_pylist())) == sum(map(sum, whole["events"].to_pylist())) - refused
    assert set(map(str, histories["member_id"].to_pylist())) == set(map(str, whole["member_id"].to_pylist()))
    widths = {len(vector) for vector in catalogue["embedding"].to_pylist() if vector is not None}
    assert widths == {len(vector) for vector in titles["embedding"].to_pylist() if vector is not None}
    lasted, before = (sum(map(sum, one["duration_s"].to_pylist())) for one in (histories, whole))
    assert lasted == pytest.approx(before, rel=0.05)


def _read(sound: Tables, place: Path) -> tuple[pa.Table, pa.Table]:
    Writer(place, sound).events_of(all=sound["interactions"])
    return read_histories(Lake.open(str(place)), parse_time(AS_OF), HistoriesConfig())


def by_every_hand(writer: Writer) -> None:
    """All of these lakes as one: each tenth of the events is written in another way, and some titles are odd."""
    tenth = -(-len(writer.events) // 10)
    parts = [
        Writer(writer.place, {"interactions": writer.events.slice(n * tenth, tenth), "titles": writer.titles})
        for n in range(10)
    ]
    for number, name in enumerate(HANDS):
        part = Writer(
            writer.place.parent / f"hand{number}", {"interactions": parts[number].events, "titles": writer.titles}
        )
        RIGHT[name][0](part)
        for place in sorted((part.place / "interactions").iterdir()):
            target = writer.place / "interactions" / f"{number}-{place.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            place.rename(target)
    vectors = [[], [1.0, 2.0], [float("nan")] * len(writer.vectors()[2]), *writer.vectors()[3:]]
    titles = put(writer.titles, "embedding", pa.array(vectors, pa.list_(pa.float32())))
    writer.write("titles/part-0.parquet", titles)
    (writer.place / "interactions" / "notes.csv").write_text("member_id\n")


HANDS = [
    *("float_ids", "decimal_ids", "ids_as_text_bytes", "durations", "no_ending", "an_impossible_time", "a_latin1_byte"),
    *("a_latin1_device", "a_link", "nan_values"),
]


def test_a_night_goes_on_with_all_of_them_at_once(tmp_path: Path, sound: Tables, samespace: Any) -> None:
    writer = Writer(tmp_path / "lake", sound)
    by_every_hand(writer)
    launched = pa.array([253_402_214_400_000_000], pa.timestamp("us", "UTC"))
    writer.write("titles/part-1.parquet", pa.table({"title_id": [10**6], "name": ["soon"], "launch_time": launched}))
    lake = str(writer.place)
    trained = samespace("train", "--lake", lake, "--as-of", AS_OF, *SHORT, cwd=tmp_path)
    planned = samespace("plan", "--lake", lake, "--as-of", AS_OF, cwd=tmp_path)
    night = samespace("nightly", "--lake", lake, "--as-of", AS_OF, cwd=tmp_path)
    assert night["live"]
    assert night["model_id"] == trained["model_id"]
    assert planned["work"]["members"] == len(pc.unique(sound["interactions"]["member_id"]))
    report = Release(str(tmp_path / "ws"), night["release_id"]).stage_report("histories")
    assert report is not None
    metrics = report.metrics
    assert metrics["refused"] == {"wrong type": 1, "event before 1990": 1}
    assert metrics["events_accepted"] == len(sound["interactions"]) - 2
    assert {(one["table"], one["column"], one["cells"]) for one in metrics["cells_missing"]} == {
        ("interactions", "device", 1),
        ("titles", "embedding", 1),
        ("titles", "launch_time", 1),
    }
    assert sum(one["cells"] for one in metrics["cells_missing"]) == 5
    assert metrics["files_left_out"]["first"] == [{"path": "interactions/notes.csv", "why": "not Parquet but csv"}]


@pytest.mark.parametrize("name", REFUSED)
def test_a_lake_that_cannot_be_right_ends_with_exit_3(name: str, tmp_path: Path, sound: Tables, samespace: Any) -> None:
    lake = written(name, tmp_path, sound)
    verbs = ["train", "nightly"] + (["plan"] if name == "a_log_of_delta" else [])
    for verb in verbs:
        told = samespace(verb, "--lake", str(lake), "--as-of", AS_OF, cwd=tmp_path, expect=3)
        assert REFUSED[name][1] in told["error"]["what"]
