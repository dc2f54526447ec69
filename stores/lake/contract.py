"""A lake: directories of Parquet files, on local disk or an object store, partitioned or not.

`Lake.open` finds the tables of `stores.lake.tables`, reads every footer, and sets aside the files that
cannot be used; `stores.lake.scan` reads the rows.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pyarrow as pa

from stores import columns
from stores.errors import ContractError, NotFoundError
from stores.lake.files import AMBIGUOUS, MISSING_COLUMN, BrokenFile, LakeFile, ambiguous, broken, read_footers
from stores.lake.finding import FoundFile, find_files, list_files
from stores.lake.physical import Form, form_of
from stores.lake.tables import IMPRESSIONS, INTERACTIONS, MEMBERS, TABLES, TITLES, Column
from stores.storage import Storage

_DECIDES_KIND = {columns.MEMBER_ID: INTERACTIONS, columns.TITLE_ID: TITLES}


@dataclass(frozen=True)
class LakeTable:
    """One table: its readable files by path (their position there is the file's number) and the broken ones.

    `left_out` are other files in its folder, each with the reason why it is no data.
    """

    name: str
    files: tuple[LakeFile, ...]
    broken: tuple[BrokenFile, ...]
    left_out: tuple[FoundFile, ...] = ()

    @property
    def contract(self) -> tuple[Column, ...]:
        """The columns that the contract knows of this table."""
        return TABLES[self.name]

    @property
    def rows(self) -> int:
        """Rows in the readable files."""
        return sum(file.rows for file in self.files)

    @property
    def present(self) -> tuple[str, ...]:
        """Contract columns that at least one file has, in the contract's order."""
        there = {name for file in self.files for name in (*file.types, *file.folders)}
        return tuple(column.name for column in self.contract if column.name in there)


class Lake:
    """An opened lake: its tables' files with their footers read; rows are read through `stores.lake.scan`."""

    def __init__(self, storage: Storage, tables: dict[str, LakeTable]) -> None:
        self.storage, self.tables = storage, tables

    def __repr__(self) -> str:
        return f"Lake({self.storage.uri!r})"

    @classmethod
    def open(cls, uri: str) -> "Lake":
        """Find the tables and read every footer.

        Raises NotFoundError where no lake is named, or the lake, a required table or every row is missing,
        ContractError where a required column is in no file or no file of a table can be read.
        """
        if not uri:
            raise _not_found(uri, "no lake is named")
        storage = Storage(uri)
        if not storage.exists(""):
            raise _not_found(uri, f"there is no lake at {uri}")
        tables = {name: _open_table(storage, name) for name in TABLES}
        return cls(storage, {name: table for name, table in tables.items() if table is not None})

    @property
    def interactions(self) -> LakeTable:
        """Who did what with which title, when."""
        return self.tables[INTERACTIONS]

    @property
    def titles(self) -> LakeTable:
        """The catalogue."""
        return self.tables[TITLES]

    @property
    def impressions(self) -> LakeTable | None:
        """What was shown to whom, if the lake says so."""
        return self.tables.get(IMPRESSIONS)

    @property
    def members(self) -> LakeTable | None:
        """Where members are, if the lake says so."""
        return self.tables.get(MEMBERS)

    def fingerprint(self) -> str:
        """SHA-256 over path, size and modification time of every file of every table: changes with the lake."""
        lines = []
        for table in self.tables.values():
            lines += [f"{file.path}\t{file.bytes}\t{file.modified_ns}" for file in table.files]
            lines += [f"{file.path}\t{file.bytes}\t{file.modified_ns}" for file in table.broken]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def id_type(self, name: str) -> pa.DataType:
        """`int64` or `string`: the kind most rows of the deciding table have (titles for titles), ties to int64.

        Cells of the other kind are converted where their text allows it and refused as "wrong type" elsewhere.
        """
        return id_type_of(
            (file.types.get(name, pa.string()), file.rows) for file in self.tables[_DECIDES_KIND[name]].files
        )

    def with_files(self, name: str, files: tuple[LakeFile, ...], broken: tuple[BrokenFile, ...]) -> "Lake":
        """The lake with other readable and broken files of a table. Raises ContractError where none is readable."""
        table = replace(self.tables[name], files=files, broken=broken)
        _require_files(self.storage, table)
        return Lake(self.storage, {**self.tables, name: table})

    def require_unchanged(self, tables: Iterable[str]) -> None:
        """Raise ContractError where a file of some tables changed or went since the lake was opened.

        Its rows may have been read in part from one version and in part from the other. New files are no change.
        """
        for name in tables:
            files: list[LakeFile | BrokenFile] = [*self.tables[name].files, *self.tables[name].broken]
            now = {file.path: (file.bytes, file.modified_ns) for file in list_files(self.storage, name)}
            changed = [file.path for file in files if now.get(file.path) != (file.bytes, file.modified_ns)]
            if changed:
                raise ContractError(
                    f"{len(changed)} of {len(files)} files of {name}/ changed while they were read: {changed[0]}",
                    where=self.storage.uri,
                    expected="files that stay as they are; new ones may be added beside them",
                    fix="run the command again once whatever writes the lake is done",
                )

    @property
    def left_out(self) -> list[FoundFile]:
        """Files of all tables that are not read, though they lie among those that are."""
        return [file for table in self.tables.values() for file in table.left_out]


_NUMBERS = (Form.WHOLE, Form.FLOAT, Form.DECIMAL, Form.DIGITS)


def id_type_of(types: Iterable[tuple[pa.DataType, int]]) -> pa.DataType:
    """The kind of an id column from the physical types of its files and their rows; files of nulls have no say."""
    votes: Counter[bool] = Counter()
    for stored in types:
        form, rows = form_of(stored[0]).form, stored[1]
        votes[form in _NUMBERS] += rows if form is not Form.EMPTY else 0
    return pa.int64() if votes[True] >= votes[False] else pa.string()


def _open_table(storage: Storage, name: str) -> LakeTable | None:
    needed = name in (INTERACTIONS, TITLES)
    if not storage.exists(name):
        if needed:
            raise _not_found(storage.uri, f"the lake has no {name}/")
        return None
    listed, left_out = find_files(storage, name)
    if not listed:
        if needed:
            raise _not_found(storage.uri, f"{name}/ holds no Parquet file{told_left_out(left_out)}")
        return None
    good, bad = read_footers(storage, listed)
    table = _with_required(storage, LakeTable(name, tuple(good), tuple(bad), tuple(left_out)))
    if needed and table.rows == 0:
        raise _not_found(storage.uri, f"{name}/ is empty: no rows in {len(listed)} files")
    return table


def _with_required(storage: Storage, table: LakeTable) -> LakeTable:
    """Set aside files that lack a required column or have one twice. Raises ContractError where none is left."""
    _require_files(storage, table)
    good, bad = [], list(table.broken)
    for file in table.files:
        lacks = [c.name for c in table.contract if c.required and c.name not in {*file.types, *file.folders}]
        found = f"the file has {', '.join(file.types) or 'no columns'}"
        twice, both = ambiguous(file, [column.name for column in table.contract])
        if twice:
            bad.append(broken(file, AMBIGUOUS, twice, both, file.rows))
        elif lacks:
            bad.append(broken(file, MISSING_COLUMN, lacks[0], found, file.rows))
        else:
            good.append(file)
    checked = replace(table, files=tuple(good), broken=tuple(bad))
    _require_files(storage, checked)
    return checked


def told_left_out(files: Iterable[FoundFile], shown: int = 3) -> str:
    """How many files are left out and why the first ones are, to be put behind another sentence; "" for none."""
    listed = list(files)
    first = "; ".join(f"{file.path}: {file.why}" for file in listed[:shown])
    return f"; {len(listed):,} files are left out ({first}{'; ...' if len(listed) > shown else ''})" if listed else ""


def _require_files(storage: Storage, table: LakeTable) -> None:
    if table.files:
        return
    first = table.broken[-1]
    what = f"{table.name}: {first.reason}{f' {first.column}' if first.column else ''} in every file"
    needed = ", ".join(f"{column.name} ({column.kind.value})" for column in table.contract if column.required)
    raise ContractError(
        f"{what}; {first.detail}",
        where=f"{storage.uri}/{first.path}",
        expected=f"Parquet files with {needed}",
        fix="write the table again with these columns, each of them once; names are case-sensitive",
    )


def _not_found(uri: str, what: str) -> NotFoundError:
    return NotFoundError(
        what,
        where=uri,
        expected="a folder or s3:// prefix with interactions/ and titles/ holding Parquet files with rows",
        fix="name another lake with --lake, or make one with `samespace simulate OUT`",
    )
