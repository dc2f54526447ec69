"""Every layout of MovieLens says the same after the import: rows, order, launches, genres, tags, members."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from embeddings.histories.job import HistoriesConfig, simulate_rejections
from stores.errors import ContractError, NotFoundError, UsageError
from stores.files.filesystem import Storage
from stores.lake import movielens_layouts
from stores.lake.contract import Lake
from stores.lake.movielens import import_movielens
from stores.schema import ACTION, EVENT_TIME, MEMBER_ID, TIMESTAMP_TYPE, TITLE_ID, VALUE, title_fields

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
    seconds = pc.divide(rows[EVENT_TIME].cast(pa.int64()), 10**6).to_pylist()
    kept = (rows[MEMBER_ID], rows[TITLE_ID], rows[VALUE])
    assert list(zip(*(column.to_pylist() for column in kept), seconds, strict=True)) == RATINGS  # in file order
    assert set(rows[ACTION].to_pylist()) == {"rate"}
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
    known = {field.name: field.type for field in title_fields()}
    assert all(field.type == known[field.name] for field in schema if field.name != TITLE_ID)
    assert table(tmp_path / "lake", "interactions").schema.field(EVENT_TIME).type == TIMESTAMP_TYPE


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


def test_tags_keep_their_member_and_moment(source: Path, tmp_path: Path) -> None:
    csv_edition(source)
    tags = '1,10,Sad,5\n2,10,epic,5\n7,10,"sad",6\n1,20,"a ""quoted"", one",5\n'
    (source / "tags.csv").write_text("userId,movieId,tag,timestamp\n" + tags)
    assert import_movielens(source, str(tmp_path / "lake"))["tags"] == 4
    rows = table(tmp_path / "lake", "tags").to_pylist()
    assert [(row["member_id"], row["title_id"], row["tag"]) for row in rows] == [
        (1, 10, "Sad"),
        (2, 10, "epic"),
        (7, 10, "sad"),
        (1, 20, 'a "quoted", one'),
    ]
    assert rows[2]["tagged_at"] == datetime.fromtimestamp(6, UTC)
    assert "text" not in table(tmp_path / "lake", "titles").column_names


def test_tags_with_colons_in_them_are_read(source: Path, tmp_path: Path) -> None:
    dat_edition(source)
    (source / "tags.dat").write_bytes(b"1::10::time::travel::5\r\n2::20::one\x0bline \xc2\x85::6\n")
    import_movielens(source, str(tmp_path / "lake"))
    assert table(tmp_path / "lake", "tags")["tag"].to_pylist() == ["time::travel", "one\x0bline \x85"]


# --- times, encodings and links

MOMENT = 1_111_111_111
TIMES = {
    "seconds": str(MOMENT),
    "milliseconds": f"{MOMENT}000",
    "microseconds": f"{MOMENT}000000",
    "nanoseconds": f"{MOMENT}000000000",
    "seconds with a point": f"{MOMENT}.0",
    "text": "2005-03-18 01:58:31",
    "quoted text": '"2005-03-18 01:58:31"',
    "text with a zone": "2005-03-18T03:58:31+02:00",
    "text in UTC": "2005-03-18T01:58:31Z",
}


def edition_at(folder: Path, times: list[str], names: tuple[str, str, str] = ("ratings", "movies", "tags")) -> None:
    csv_edition(folder)
    rated = [f"{at + 1},10,4.0,{time}" for at, time in enumerate(times)]
    texts = {
        names[0]: "userId,movieId,rating,timestamp\n" + "\n".join(rated),
        names[2]: "userId,movieId,tag,timestamp\n" + "\n".join(row.replace("4.0", "sad") for row in rated),
    }
    (folder / "movies.csv").rename(folder / f"{names[1]}.csv")
    (folder / "ratings.csv").unlink()
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text + "\n")


def moments(lake: Path, name: str, column: str) -> list[int | None]:
    cells = table(lake, name)[column].cast(pa.int64()).to_pylist()
    return [None if cell is None else cell // 10**6 for cell in cells]


@pytest.mark.parametrize("form", TIMES)
@pytest.mark.parametrize("names", [("ratings", "movies", "tags"), ("rating", "movie", "tag")])
def test_a_time_is_the_same_in_any_form(form: str, names: tuple[str, str, str], source: Path, tmp_path: Path) -> None:
    edition_at(source, [TIMES[form]] * 2, names)
    counts = import_movielens(source, str(tmp_path / "lake"))
    assert counts == {"interactions": 2, "titles": 3, "members": 2, "tags": 2}
    assert moments(tmp_path / "lake", "interactions", "event_time") == [MOMENT] * 2
    assert moments(tmp_path / "lake", "tags", "tagged_at") == [MOMENT] * 2


def test_forms_may_be_mixed_and_what_is_no_time_costs_its_row(source: Path, tmp_path: Path) -> None:
    bad = ["soon", "", "9" * 30, "NaN", "2005-13-45", "-"]
    edition_at(source, [*TIMES.values(), *bad, "18-Mar-2005"])
    counts = import_movielens(source, str(tmp_path / "lake"))
    assert counts["without time"] == 2 * len(bad)
    wanted = [*[MOMENT] * len(TIMES), *[None] * len(bad), MOMENT - MOMENT % 86_400]
    assert moments(tmp_path / "lake", "interactions", "event_time") == wanted
    lake, now = Lake.open(str(tmp_path / "lake")), datetime.now(UTC)
    letters, _ = simulate_rejections(lake, now, HistoriesConfig(max_bad_fraction=1.0), 1)
    for name, column in (("interactions", "event_time"), ("tags", "tagged_at")):
        found = [(one["row"], one["reason"]) for one in letters[name].to_pylist()]
        assert found == [(len(TIMES) + at, f"{column} is null") for at in range(len(bad))]


def test_times_of_which_none_can_be_read_are_refused(source: Path, tmp_path: Path) -> None:
    edition_at(source, ["soon", "later"])
    with pytest.raises(ContractError, match="no time in the file"):
        import_movielens(source, str(tmp_path / "lake"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252"])
def test_every_encoding_gives_the_same_names_and_tags(encoding: str, source: Path, tmp_path: Path) -> None:
    csv_edition(source)
    for name, text in (
        ("movies.csv", 'movieId,title,genres\n10,"Misérables, Les (1995)",Drama\n20,Amélie (2001),Comedy\n'),
        ("tags.csv", "userId,movieId,tag,timestamp\n1,10,café,5\n"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n1,10,4.0,900\n"),
    ):
        (source / name).write_bytes(text.encode(encoding))
    import_movielens(source, str(tmp_path / "lake"))
    assert table(tmp_path / "lake", "titles")["name"].to_pylist() == ["Misérables, Les (1995)", "Amélie (2001)"]
    assert table(tmp_path / "lake", "tags")["tag"].to_pylist() == ["café"]


def test_one_foreign_line_does_not_spoil_the_others(source: Path, tmp_path: Path) -> None:
    dat_edition(source)
    lines = ["10::Misérables (1995)::Drama\n".encode(), "20::Amélie\u2019s (2001)::Drama\n".encode("cp1252")]
    (source / "movies.dat").write_bytes(b"".join(lines))
    import_movielens(source, str(tmp_path / "lake"))
    assert table(tmp_path / "lake", "titles")["name"].to_pylist() == ["Misérables (1995)", "Amélie\u2019s (2001)"]


def test_links_are_followed_and_one_that_leads_nowhere_is_named(source: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    csv_edition(elsewhere)
    (elsewhere / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,10,sad,5\n")
    for name in ("ratings.csv", "movies.csv", "tags.csv"):
        (source / name).symlink_to(elsewhere / name)
    (tmp_path / "linked").symlink_to(source)
    counts = import_movielens(tmp_path / "linked", str(tmp_path / "lake"))
    assert (counts["interactions"], counts["tags"]) == (len(RATINGS), 1)
    (elsewhere / "tags.csv").unlink()
    with pytest.raises(NotFoundError, match=r"tags\.csv is a link to"):
        import_movielens(source, str(tmp_path / "again"))


def test_columns_are_found_by_their_names(source: Path, tmp_path: Path) -> None:
    csv_edition(source)
    rows = [f"{s},{r},{t},{m},x" for m, t, r, s in RATINGS]
    header = '"timestamp","rating","movieId","userId","note"'
    (source / "ratings.csv").write_text("\n".join([header, *rows]))
    import_movielens(source, str(tmp_path / "lake"))
    found = table(tmp_path / "lake", "interactions")
    assert found["member_id"].to_pylist() == [row[0] for row in RATINGS]
    assert found["value"].to_pylist() == [row[2] for row in RATINGS]


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
    assert counts == {"interactions": 100836, "titles": 9742, "members": 610, "tags": 3683}
    titles, rows = table(tmp_path, "titles"), table(tmp_path, "interactions")
    played = rows.join(titles.select([TITLE_ID, "launch_time"]), TITLE_ID)
    assert pc.all(pc.greater_equal(played[EVENT_TIME], played["launch_time"])).as_py()
    assert set(rows[TITLE_ID].to_pylist()) <= set(titles[TITLE_ID].to_pylist())
