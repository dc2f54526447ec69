"""Every layout of MovieLens says the same after the import: rows, order, launches, genres, tags, members."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from stores import columns
from stores.errors import ContractError, NotFoundError, UsageError
from stores.lake import movielens_layouts
from stores.lake.contract import Lake
from stores.lake.movielens import import_movielens
from stores.storage import Storage

RATINGS = [(1, 10, 4.0, 900), (1, 20, 5.0, 800), (2, 10, 3.0, 800), (2, 30, 1.0, 800), (7, 20, 2.0, 10**9)]
"""member, title, stars, seconds: not in the order of time, with equal times."""

NAMES = {10: "Misérables, Les (1995)", 20: "Star Wars: Episode IV (1965)", 30: "Babylon 5"}
GENRES = {10: ["Drama", "War"], 20: ["Sci-Fi"], 30: []}


def csv_edition(folder: Path, ending: str = "\n") -> None:
    rows = [f"{m},{t},{r},{s}" for m, t, r, s in RATINGS]
    (folder / "ratings.csv").write_bytes((ending.join(["userId,movieId,rating,timestamp", *rows]) + ending).encode())
    movies = [f'{t},"{NAMES[t]}",{"|".join(GENRES[t]) or "(no genres listed)"}' for t in NAMES]
    (folder / "movies.csv").write_bytes((ending.join(["movieId,title,genres", *movies]) + ending).encode())


def windows_edition(folder: Path) -> None:
    csv_edition(folder, "\r\n")


def dat_edition(folder: Path) -> None:
    (folder / "ratings.dat").write_text("".join(f"{m}::{t}::{r:g}::{s}\n" for m, t, r, s in RATINGS))
    movies = [f"{t}::{NAMES[t]}::{'|'.join(GENRES[t]) or '(no genres listed)'}\n" for t in NAMES]
    (folder / "movies.dat").write_bytes("".join(movies).encode("latin-1"))


def hundred_thousand_edition(folder: Path) -> None:
    (folder / "u.data").write_text("".join(f"{m}\t{t}\t{r:g}\t{s}\n" for m, t, r, s in RATINGS))
    flags = movielens_layouts.GENRES_100K
    rows = []
    for title, name in NAMES.items():
        on = "|".join("01"[genre in (GENRES[title] or ["unknown"])] for genre in flags)
        rows.append(f"{title}|{name}|01-Jan-1995||http://example.org/?a|{on}\n")
    (folder / "u.item").write_bytes("".join(rows).encode("latin-1"))


EDITIONS = [csv_edition, windows_edition, dat_edition, hundred_thousand_edition]


def table(lake: Path, name: str) -> pa.Table:
    return Storage(str(lake)).dataset(name).to_table()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("write", EDITIONS)
@pytest.mark.parametrize("block_bytes", [32 << 20, 7])
def test_each_layout_gives_the_same_lake_whatever_the_block(
    write: Callable[[Path], None], block_bytes: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(movielens_layouts, "BLOCK_BYTES", block_bytes)
    write(source)
    out = tmp_path / "lake"
    counts = import_movielens(source, str(out))
    assert counts == {"interactions": len(RATINGS), "titles": 3, "members": 3}
    rows = table(out, "interactions")
    seconds = pc.divide(rows[columns.EVENT_TIME].cast(pa.int64()), 10**6).to_pylist()
    kept = (rows[columns.MEMBER_ID], rows[columns.TITLE_ID], rows[columns.VALUE])
    assert list(zip(*(column.to_pylist() for column in kept), seconds, strict=True)) == RATINGS  # in file order
    assert set(rows[columns.ACTION].to_pylist()) == {"rate"}
    titles = table(out, "titles").to_pylist()
    assert {row["title_id"]: row["name"] for row in titles} == NAMES
    assert {row["title_id"]: row["genres"] for row in titles} == GENRES
    assert {row["kind"] for row in titles} == {"movie"}


def test_the_lake_follows_the_contract(source: Path, tmp_path: Path) -> None:
    csv_edition(source)
    import_movielens(source, str(tmp_path / "lake"))
    lake = Lake.open(str(tmp_path / "lake"))
    assert sorted(lake.tables) == ["interactions", "titles"]
    for part in lake.tables.values():
        assert not part.broken
    schema = table(tmp_path / "lake", "titles").schema
    known = {field.name: field.type for field in columns.title_fields()}
    assert all(field.type == known[field.name] for field in schema if field.name != columns.TITLE_ID)
    assert table(tmp_path / "lake", "interactions").schema.field(columns.EVENT_TIME).type == columns.TIME


def test_a_title_launches_in_its_year_but_not_after_its_first_rating(source: Path, tmp_path: Path) -> None:
    csv_edition(source)
    import_movielens(source, str(tmp_path / "lake"))
    launches = dict(zip(*(table(tmp_path / "lake", "titles")[c].to_pylist() for c in ("title_id", "launch_time")), strict=True))  # fmt: skip  # noqa: E501
    assert launches == {
        10: datetime.fromtimestamp(800, UTC),  # the year is 1995, the first rating earlier
        20: datetime(1965, 1, 1, tzinfo=UTC),
        30: None,
    }


@pytest.mark.parametrize(
    ("name", "year"),
    [
        ("A (1999)", 1999),
        ("A (2006\u20132007)", 2006),
        ("A (1921- )", 1921),
        ("2001 (b) (1968) ", 1968),
        ("A (12)", None),
    ],
)
def test_the_year_is_the_one_that_the_name_ends_with(name: str, year: int | None, source: Path, tmp_path: Path) -> None:
    csv_edition(source)
    (source / "movies.csv").write_text(f"movieId,title,genres\n99,{name},Drama\n")
    import_movielens(source, str(tmp_path / "lake"))
    (launch,) = table(tmp_path / "lake", "titles")["launch_time"].to_pylist()
    assert (launch.year if launch else None) == year


def test_tags_become_a_text_frequent_ones_first(source: Path, tmp_path: Path) -> None:
    csv_edition(source)
    tags = '1,10,Sad,5\n2,10,epic,5\n7,10,"sad",6\n1,20,"a ""quoted"", one",5\n1,20, ,5\n'
    (source / "tags.csv").write_text("userId,movieId,tag,timestamp\n" + tags)
    import_movielens(source, str(tmp_path / "lake"))
    rows = table(tmp_path / "lake", "titles").to_pylist()
    assert [row["text"] for row in rows] == ["sad, epic", 'a "quoted", one', None]


def test_tags_with_colons_in_them_are_read(source: Path, tmp_path: Path) -> None:
    dat_edition(source)
    (source / "tags.dat").write_text("1::10::time::travel::5\n2::20::robots::6\n")
    import_movielens(source, str(tmp_path / "lake"))
    assert [row["text"] for row in table(tmp_path / "lake", "titles").to_pylist()] == ["time::travel", "robots", None]


def test_users_become_members_with_their_age(source: Path, tmp_path: Path) -> None:
    dat_edition(source)
    (source / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n7::M::25::15::55117\n9::M::25::1::1\n")
    assert import_movielens(source, str(tmp_path / "lake"))["members"] == 4
    assert table(tmp_path / "lake", "members").to_pydict() == {"member_id": [1, 2, 7, 9], "maturity": [17, 56, 25, 25]}


def test_the_hundred_thousand_edition_has_users_and_its_own_genre_order(source: Path, tmp_path: Path) -> None:
    hundred_thousand_edition(source)
    flags = movielens_layouts.GENRES_100K
    swapped = {"Drama": "War", "War": "Drama"}
    (source / "u.genre").write_text("".join(f"{swapped.get(g, g)}|{i}\n" for i, g in enumerate(flags)) + "\n")
    (source / "u.user").write_text("1|24|M|technician|85711\n")
    import_movielens(source, str(tmp_path / "lake"))
    assert table(tmp_path / "lake", "titles")["genres"].to_pylist()[0] == ["War", "Drama"]
    assert table(tmp_path / "lake", "members").to_pydict() == {"member_id": [1], "maturity": [24]}


def test_what_is_no_movielens_is_refused_with_what_was_looked_for(source: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"ratings\.csv") as error:
        import_movielens(source, str(tmp_path / "lake"))
    assert "u.data" in str(error.value)
    with pytest.raises(NotFoundError, match="no such folder"):
        import_movielens(source / "nowhere", str(tmp_path / "lake"))
    (source / "ml-1m.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match="is a file"):
        import_movielens(source / "ml-1m.zip", str(tmp_path / "lake"))
    (source / "ml-1m").mkdir()
    dat_edition(source / "ml-1m")
    with pytest.raises(NotFoundError, match="ml-1m"):  # one folder too high: the right one is named
        import_movielens(source, str(tmp_path / "lake"))
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("ratings.csv", "userId,movieId,rating,timestamp\n1,10,good,5\n", "good"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n", "no rating"),
        ("ratings.csv", "a,b\n1,2\n", "first line"),
        ("movies.csv", "movieId,name\n1,A\n", "title"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(file: str, text: str, says: str, source: Path, tmp_path: Path) -> None:
    csv_edition(source)
    (source / file).write_text(text)
    with pytest.raises(ContractError, match=says) as error:
        import_movielens(source, str(tmp_path / "lake"))
    assert file in str(error.value)
    assert not (tmp_path / "lake" / "titles").exists()  # what is there is no lake


def test_a_line_with_too_few_fields_is_named(source: Path, tmp_path: Path) -> None:
    dat_edition(source)
    (source / "movies.dat").write_text("10::A (1999)::Drama\n20::B (1999)\n")
    with pytest.raises(ContractError, match="line 2"):
        import_movielens(source, str(tmp_path / "lake"))


def test_a_place_that_holds_something_is_refused(source: Path, tmp_path: Path) -> None:
    csv_edition(source)
    import_movielens(source, str(tmp_path / "lake"))
    with pytest.raises(UsageError, match="something in the place"):
        import_movielens(source, str(tmp_path / "lake"))


def test_the_real_edition_comes_over_whole(movielens: Path, tmp_path: Path) -> None:
    counts = import_movielens(movielens, str(tmp_path))
    assert counts == {"interactions": 100836, "titles": 9742, "members": 610}
    titles, rows = table(tmp_path, "titles"), table(tmp_path, "interactions")
    played = rows.join(titles.select([columns.TITLE_ID, "launch_time"]), columns.TITLE_ID)
    assert pc.all(pc.greater_equal(played[columns.EVENT_TIME], played["launch_time"])).as_py()
    assert set(rows[columns.TITLE_ID].to_pylist()) <= set(titles[columns.TITLE_ID].to_pylist())
