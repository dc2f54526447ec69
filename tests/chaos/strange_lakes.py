"""Lakes in any physical form with one bad cell each, beside the right value of every cell in plain Python.

`StrangeLake(seed).write(folder)` writes one; `problems` says what a reading of it got wrong: a row that is neither
accepted with its right values nor listed as refused, a row that is another one's, a count that does not add up.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from stores.lake.tables import IMPRESSIONS, INTERACTIONS, MEMBERS, TABLES, TITLES, Kind
from tests.chaos.storing import (
    ACTION_CELLS,
    CELLS,
    DAY,
    DURATION_CELLS,
    FORMS,
    UNTYPED,
    WRITINGS,
    BadCell,
    Form,
    fits,
    id_cells,
    id_forms,
)

Row = dict[str, Any]
BEGIN = 1_672_531_200_000_000
"""2023-01-01."""
KINDS = {table: {column.name: column.kind for column in contract} for table, contract in TABLES.items()}
REQUIRED = {table: {column.name for column in contract if column.required} for table, contract in TABLES.items()}
TITLES_, MEMBERS_, EVENTS, FILES = 8, 12, 60, 3
ACTIONS = ("play", "trailer", "thumb_up", "rate")
FOLDER_COLUMNS = {"country": "DE", "device": "7", "locale": "de-DE"}
STRUCTURES = (
    "plain",
    "spark leftovers",
    "an empty file",
    "a file without row groups",
    "a file of no bytes",
    "a cut file",
    "a folder gives a column",
    "a folder gives nothing",
    "columns in another order",
    "extra columns",
    "a nested extra column",
    "other capitals",
    "a column twice",
    "no ending",
    "odd names",
    "capital ending",
    "fewer columns",
)


@dataclass
class File:
    """One file of a table: its path below the lake, its right rows, and the form of each column."""

    path: str
    rows: list[Row]
    forms: dict[str, Form] = field(default_factory=dict)
    folders: dict[str, Any] = field(default_factory=dict)
    doubtful: bool = False
    """Whether the file may be refused or left out as a whole, if that is listed."""


@dataclass
class Spoilt:
    """The one bad cell: where it lies."""

    table: str
    file: File
    row: int
    column: str
    cell: BadCell


class StrangeLake:
    """A lake that a seed decides: types, files, and one bad cell."""

    def __init__(self, seed: int) -> None:
        self.seed, self.random = seed, random.Random(seed)
        self.text_ids = self.random.random() < 0.4
        self.whole_days = self.random.random() < 0.5
        self.junk: list[str] = []
        self.structure = self.random.choice(STRUCTURES)
        titles = self._titles()
        self.tables = {
            INTERACTIONS: self._split(INTERACTIONS, self._events(), FILES),
            TITLES: self._split(TITLES, titles, 2),
            IMPRESSIONS: self._split(IMPRESSIONS, self._impressions(), 2),
            MEMBERS: self._split(MEMBERS, self._members(), 1),
        }
        self._shape()
        self.spoilt = self._spoil()

    def __str__(self) -> str:
        bad = self.spoilt
        return (
            f"lake {self.seed} ({'text' if self.text_ids else 'whole'} ids, {self.structure}): {bad.file.path} row "
            f"{bad.row} {bad.column} {bad.cell.name}"
        )

    # --- right rows

    def _id(self, prefix: str, number: int) -> Any:
        return f"{prefix}é {number}" if self.text_ids else number

    def _time(self, number: int) -> int:
        return BEGIN + number * DAY + (0 if self.whole_days else self.random.randrange(86_400) * 10**6)

    def _events(self) -> list[Row]:
        pairs = [(m, t) for m in range(1, MEMBERS_ + 1) for t in range(1, TITLES_ + 1)]
        return [
            {
                "member_id": self._id("m", member),
                "title_id": self._id("t", title),
                "event_time": self._time(number),
                "action": self.random.choice(ACTIONS),
                "duration_s": self.random.choice((None, 60.0, 90.0, 1800.0)),
                "value": self.random.choice((None, 1.0, 3.0, 5.0)),
                "device": self.random.choice((None, "tv", "phone")),
                "country": self.random.choice((None, "GB", "BR")),
                "locale": self.random.choice((None, "en-GB", "pt-BR")),
            }
            for number, (member, title) in enumerate(self.random.sample(pairs, EVENTS))
        ]

    def _titles(self) -> list[Row]:
        return [
            {
                "title_id": self._id("t", title),
                "name": f"Title {title} / é",
                "kind": "movie",
                "launch_time": BEGIN - title * 30 * DAY,
                "runtime_s": 60.0 * title,
                "genres": [["Drama"], ["Drama", "War"], []][title % 3],
                "language": "en",
                "country": None,
                "text": "a description",
                "embedding": [float(title), 1.0, 2.0],
                "available_countries": ["GB"],
                "maturity": title,
            }
            for title in range(1, TITLES_ + 1)
        ]

    def _impressions(self) -> list[Row]:
        return [
            {
                "member_id": self._id("m", 1 + number % MEMBERS_),
                "title_id": self._id("t", 1 + number % TITLES_),
                "shown_at": self._time(number),
                "position": number % 5,
                "surface": "home",
            }
            for number in range(20)
        ]

    def _members(self) -> list[Row]:
        return [
            {"member_id": self._id("m", member), "country": "GB", "maturity": 12, "locale": "en-GB"}
            for member in range(1, MEMBERS_ + 1)
        ]

    # --- files

    def _split(self, table: str, rows: list[Row], parts: int) -> list[File]:
        size = -(-len(rows) // parts)
        files = [File(f"{table}/part-{at}.parquet", rows[at * size : (at + 1) * size]) for at in range(parts)]
        for file in files:
            for column in KINDS[table]:
                file.forms[column] = self._form(table, column, file.rows)
        for column, form in files[0].forms.items():  # what every night must read, so that something is left to compare
            files[0].forms[column] = form if form.certain else self._plain(table, column)
        for column, form in files[-1].forms.items():  # most rows have the lake's own kind of ids
            if not self.text_ids and form.name.startswith("digits"):
                files[-1].forms[column] = self._plain(table, column)
        return files

    def _plain(self, table: str, column: str) -> Form:
        """The form that most writers use."""
        kind = KINDS[table][column]
        return (id_forms(self.text_ids) if kind is Kind.ID else FORMS[kind])[0]

    def _form(self, table: str, column: str, rows: list[Row]) -> Form:
        """Mostly the plain form, which comes first; any that can hold the values otherwise."""
        values = [row[column] for row in rows]
        forms = id_forms(self.text_ids) if KINDS[table][column] is Kind.ID else FORMS[KINDS[table][column]]
        if not self.text_ids and KINDS[table][column] is Kind.ID and self.random.random() < 0.6:
            return forms[2]
        if self.random.random() < 0.6:
            return forms[0]
        sure = table == TITLES and self.random.random() < 0.8
        return self.random.choice([form for form in forms if fits(form, values) and (form.certain or not sure)])

    def _shape(self) -> None:
        """Give one file of interactions the structure of this lake."""
        file, name = self.tables[INTERACTIONS][1], self.structure
        folder, base = "interactions", "part-1.parquet"
        if name == "a folder gives a column":
            column = self.random.choice(sorted(FOLDER_COLUMNS))
            file.folders = {column: FOLDER_COLUMNS[column]}
            file.rows = [{**row, column: FOLDER_COLUMNS[column]} for row in file.rows]
            file.path = f"{folder}/{column}={FOLDER_COLUMNS[column]}/{base}"
        elif name == "a folder gives nothing":
            file.path = f"{folder}/date=2023-05-01/hour=07/{base}"
        elif name == "no ending":
            file.path, file.doubtful = f"{folder}/000001_0", True
        elif name == "odd names":
            odd = self.random.choice(
                [
                    "[0-9]*.parquet",
                    'it\'s "a" name.parquet',
                    "é ü 片.parquet",
                    "a=b,c;d%20#.parquet",
                    "part {1}?.parquet",
                ]
            )
            file.path = f"{folder}/{odd}"
        elif name == "capital ending":
            file.path, file.doubtful = f"{folder}/part-1.PARQUET", True
        elif name in ("other capitals", "a column twice"):
            file.doubtful = True
        elif name == "fewer columns":
            for column in self.random.sample(["duration_s", "value", "device", "country", "locale"], 3):
                file.forms.pop(column)
                file.rows = [{**row, column: None} for row in file.rows]

    def _spoil(self) -> Spoilt:
        table = self.random.choices(list(self.tables), weights=(10, 6, 1, 1))[0]
        file = self.random.choice(self.tables[table])
        column = self.random.choice([name for name in file.forms if name not in file.folders])
        row = self.random.randrange(len(file.rows))
        cells = self._cells(table, column)
        values = [one[column] for one in file.rows]
        fitting = [cell for cell in cells if _makes(cell, values, row)]
        return Spoilt(table, file, row, column, self.random.choice(fitting))

    def _cells(self, table: str, column: str) -> tuple[BadCell, ...]:
        kind = KINDS[table][column]
        if kind is Kind.ID:
            return id_cells(self.text_ids)
        special = {"action": ACTION_CELLS, "duration_s": DURATION_CELLS}
        return special.get(column, CELLS[kind])

    # --- writing

    def write(self, folder: Path) -> Path:
        """Write the lake; the folder."""
        for files in self.tables.values():
            for file in files:
                path = folder / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                self._write_file(path, self._table(file))
        self._write_junk(folder)
        return folder

    def _table(self, file: File) -> pa.Table:
        bad, columns = self.spoilt, {}
        for column, form in file.forms.items():
            values = [row[column] for row in file.rows]
            if column in file.folders:
                continue
            if file is bad.file and column == bad.column:
                columns[column] = bad.cell.make(values, bad.row)
            else:
                columns[column] = form.make(values)
        return pa.table(columns)

    def _write_file(self, path: Path, table: pa.Table) -> None:
        shaped = path == path.parent / Path(self.tables[INTERACTIONS][1].path).name and "interactions" in path.parts
        if shaped and self.structure == "columns in another order":
            table = table.select(self.random.sample(table.column_names, table.num_columns))
        if shaped and self.structure == "extra columns":
            table = table.append_column("wrong", pa.array(["x"] * len(table))).append_column(
                "pos", pa.array([7] * len(table))
            )
        if shaped and self.structure == "a nested extra column":
            nested = pa.array([{"a": [1, None], "b": {"c": "x"}}] * len(table))
            table = table.append_column("payload", nested)
        if shaped and self.structure == "other capitals":
            table = table.rename_columns([name.title() if name == "member_id" else name for name in table.column_names])
        if shaped and self.structure == "a column twice":
            table = table.append_column(table.schema.field("title_id"), table["title_id"])
        names = [name for name in WRITINGS if name != UNTYPED or not any(map(pa.types.is_duration, table.schema.types))]
        pq.write_table(table, path, **_settings(table, self.random.choice(names)))

    def _write_junk(self, folder: Path) -> None:
        """What lies among data without being data, or is data that cannot be read."""
        place = folder / "interactions"
        whole = pq.read_table(folder / self.tables[INTERACTIONS][0].path)
        if self.structure == "spark leftovers":
            (place / "_SUCCESS").write_bytes(b"")
            (place / ".part-0.parquet.crc").write_bytes(b"crc\x00")
            for hidden in ("_temporary/0/part-9.parquet", ".hive-staging_1/part-9.parquet"):
                (place / hidden).parent.mkdir(parents=True)
                pq.write_table(whole, place / hidden)
        elif self.structure == "an empty file":
            pq.write_table(whole.slice(0, 0), place / "part-9.parquet")
        elif self.structure == "a file without row groups":
            with pq.ParquetWriter(place / "part-9.parquet", whole.schema):
                pass
        elif self.structure == "a file of no bytes":
            (place / "part-9.parquet").write_bytes(b"")
            self.junk.append("interactions/part-9.parquet")
        elif self.structure == "a cut file":
            pq.write_table(whole, place / "part-9.parquet")
            data = (place / "part-9.parquet").read_bytes()
            (place / "part-9.parquet").write_bytes(data[: len(data) // 2])
            self.junk.append("interactions/part-9.parquet")


def _settings(table: pa.Table, name: str) -> dict[str, Any]:
    """The options of a way to write; the plain one where pyarrow cannot write such a table in it."""
    try:
        pq.write_table(table, pa.BufferOutputStream(), **WRITINGS[name])
    except (pa.ArrowException, OSError):
        return {}
    return WRITINGS[name]


def _makes(cell: BadCell, values: list[Any], row: int) -> bool:
    """Whether a bad cell can stand among these values, in a file that pyarrow can write."""
    try:
        table = pa.table({"x": cell.make(values, row)})
        pq.write_table(table, pa.BufferOutputStream())
    except (pa.ArrowException, OSError, OverflowError, ValueError, TypeError, AttributeError, ArithmeticError):
        return False
    return True


# --- what was read of it


@dataclass
class Reading:
    """What a reading made of a lake: histories, catalogue, letters by table, the figures of the stage."""

    histories: pa.Table
    catalogue: pa.Table
    letters: pa.Table
    metrics: dict[str, Any]


def problems(lake: StrangeLake, found: Reading) -> list[str]:
    """Everything that a reading got wrong; empty where it is right."""
    letters = [(one["source"], one["row"]) for one in found.letters.to_pylist()]
    refused = set(letters)
    wrong = [f"a row is listed twice: {one}" for one in refused if letters.count(one) > 1 and one[1] >= 0]
    wrong += [f"{path} is neither read nor listed" for path in lake.junk if (path, -1) not in refused]
    left_out = {one["path"] for one in found.metrics.get("files_left_out", {}).get("first", [])}
    titles = _titles_of(found.catalogue)
    taken = set(titles)
    wrong += _titles_wrong(lake, titles, refused | {(path, -1) for path in left_out})
    wrong += _events_wrong(lake, found, refused | {(path, -1) for path in left_out}, taken)
    return wrong + _counts_wrong(found)


def _counts_wrong(found: Reading) -> list[str]:
    metrics, wrong = found.metrics, []
    for read, accepted, refused in (
        ("events_read", "events_accepted", "refused"),
        ("titles_read", "titles", "titles_refused"),
    ):
        total = metrics[accepted] + sum(metrics[refused].values())
        if metrics[read] != total:
            wrong.append(f"{read} is {metrics[read]}, accepted and refused are {total}")
    return wrong


def _titles_of(catalogue: pa.Table) -> dict[Any, Row]:
    rows = catalogue.set_column(
        catalogue.schema.get_field_index("launch_time"), "launch_time", catalogue["launch_time"].cast(pa.int64())
    ).to_pylist()
    return {_key(row["title_id"]): row for row in rows}


def _key(value: Any) -> str:
    """An id as text: whether a lake's ids are numbers or texts is decided by most of its rows."""
    return str(value)


def _titles_wrong(lake: StrangeLake, found: dict[Any, Row], refused: set[tuple[str, int]]) -> list[str]:
    wrong, known = [], set()
    for file in lake.tables[TITLES]:
        for number, row in enumerate(file.rows):
            known.add(_key(row["title_id"]))
            listed = (file.path, number) in refused or (file.path, -1) in refused
            wrong += _row_wrong(lake, TITLES, file, number, found.get(_key(row["title_id"])), listed)
    return wrong + [f"an unknown title {title!r}" for title in found if title not in known]


def _events_wrong(lake: StrangeLake, found: Reading, refused: set[tuple[str, int]], titles: set[Any]) -> list[str]:
    tokens = _tokens(found.histories)
    wrong, known = [], set()
    for file in lake.tables[INTERACTIONS]:
        for number, row in enumerate(file.rows):
            key = _key(row["member_id"]), _key(row["title_id"])
            known.add(key)
            listed = (file.path, number) in refused or (file.path, -1) in refused
            if key[1] not in titles:
                if key in tokens or not listed:
                    wrong.append(
                        f"{file.path} row {number}: its title was refused, it is {'listed' if listed else 'lost'}"
                    )
                continue
            wrong += _row_wrong(lake, INTERACTIONS, file, number, tokens.get(key), listed)
    return wrong + [f"an event that was never written: {key}" for key in tokens if key not in known]


def _tokens(histories: pa.Table) -> dict[tuple[Any, Any], Row]:
    """Every token by member and title: no pair has two events."""
    found: dict[tuple[Any, Any], Row] = {}
    times = histories["last_time"].combine_chunks()
    seconds = pa.ListArray.from_arrays(times.offsets, times.values.cast(pa.int64())).to_pylist()
    for row, moments in zip(histories.to_pylist(), seconds, strict=True):
        for at, title in enumerate(row["title_id"]):
            action = ACTIONS_BY_BIT.get(row["actions"][at])
            value = row["value"][at]
            found[_key(row["member_id"]), _key(title)] = {
                "member_id": row["member_id"],
                "title_id": title,
                "event_time": moments[at],
                "action": action,
                "duration_s": row["duration_s"][at] or None,
                "value": None if value is None or np.isnan(value) else value,
                **{name: row[name][at] for name in ("device", "country", "locale")},
                "events": row["events"][at],
            }
    return found


ACTIONS_BY_BIT = {
    1 << at: name for at, name in enumerate(("play", "trailer", "thumb_up", "thumb_down", "add_to_list", "rate"))
}


def _row_wrong(lake: StrangeLake, table: str, file: File, number: int, found: Row | None, listed: bool) -> list[str]:
    """What is wrong with one row, by the law: right and not listed, or listed and not there."""
    bad, where = lake.spoilt, f"{file.path} row {number}"
    spoilt = bad.file is file and bad.row == number
    may_refuse = spoilt or file.doubtful or any(not form.certain for form in file.forms.values())
    if found is None and not listed:
        return [f"{where} is lost: neither accepted nor listed"]
    if found is not None and listed:
        return [f"{where} is accepted and listed as refused"]
    if found is None:
        return [] if may_refuse else [f"{where} is refused, and nothing is wrong with it"]
    if spoilt and bad.cell.refused and bad.column in REQUIRED[table] | {"duration_s"}:
        return [f"{where} is accepted, though {bad.column} is {bad.cell.name}"]
    if found.get("events", 1) != 1:
        return [f"{where} counts {found['events']} times"]
    right = file.rows[number]
    return [
        f"{where}: {column} is {found[column]!r}, right is {right[column]!r}"
        for column in KINDS[table]
        if not (spoilt and column == bad.column and _missing(found[column]))
        and not _same(found[column], _key(right[column]) if isinstance(found[column], str) else right[column])
        and not (spoilt and column == bad.column and _repaired(found[column], right[column], bad.cell))
    ]


def _missing(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, float) and np.isnan(value))


def _repaired(found: Any, right: Any, cell: BadCell) -> bool:
    """A list that lost its bad element, or an impossible launch that is kept as it was written, is no other's value."""
    if isinstance(found, list):
        return all(element in (*(right or []), "Drama", None) for element in found)
    return False


def _same(found: Any, right: Any) -> bool:
    if isinstance(right, list) and isinstance(found, list):
        return len(found) == len(right) and all(map(_same, found, right))
    if isinstance(right, float) and isinstance(found, int | float):
        return bool(np.isclose(found, right, rtol=1e-3))
    return bool(found == right)
