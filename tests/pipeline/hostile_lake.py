"""A lake whose ids, names, genres and countries are all that a terminal, a page, a script or a table might obey."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

IDS = (
    " ",
    ".",
    "..",
    "../../etc/passwd",
    "/",
    "a/b",
    "x/candidates",
    "a\nb",
    "\r\n",
    "tab\tbed",
    "\x1b[2J\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b1A",
    "\u202egnp.exe",
    "\u2066isolated\u2069\u202e",
    "zero\u200bwidth\ufeff",
    "\u2028line",
    "\u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 123",
    "\N{FAMILY}\u200d\N{PERSONAL COMPUTER}",
    "e\u0301\u0301\u0301",
    "%2e%2e%2f",
    "100%",
    "?q=1&k=2#x",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\"'><svg onload=alert(3)>",
    "</script><script>alert(4)</script>",
    "<!--",
    "]]>",
    "${7*7} {{7*7}} $value",
    "javascript:alert(5)",
    '=HYPERLINK("http://evil.example")',
    "@SUM(1+1)|cmd",
    "'; DROP TABLE titles; --",
    "\\u0000 \\x00",
    "None",
    "NaN",
    "-1",
    "007",
    "CON",
    "w" * 3_000,
    "\N{PILE OF POO}" * 50,
)
NAMES = ("", " ", "\u200b", *IDS, "n" * 60_000, "\u202e" * 100, "a b " * 5_000)
COUNTRIES = {
    "BR": "<b>BR</b>",
    "DE": "\x1b[31mDE",
    "FR": " ",
    "GB": "GB",
    "IN": "\u202eNI",
    "JP": "\u65e5\u672c",
    "KR": 'a,"b"\n=1+1',
    "US": "../US",
}


def make_hostile(plain: Path, place: Path) -> None:
    """Write a simulated lake again with hostile texts; who watched what and when stays as it was."""
    genres: dict[str, str] = {}
    active = pq.read_table(plain / "interactions", columns=["member_id"], partitioning=None)["member_id"].to_pylist()
    order = [*sorted(set(active)), *sorted(set(range(1, 1 + max(active))) - set(active))]
    members = {number: place for place, number in enumerate(order, 1)}  # those with events have the hostile ids
    for path in sorted(plain.rglob("*.parquet")):
        table = pq.read_table(path)
        if path.relative_to(plain).parts[0] == "_truth":
            continue
        columns: dict[str, Any] = {name: table[name] for name in table.column_names}
        for key in {"member_id", "title_id"} & {*columns}:
            ids = table[key].to_pylist()
            numbers = [members.setdefault(one, len(members) + 1) for one in ids] if key == "member_id" else ids
            columns[key] = pa.array([named(one) for one in numbers], pa.string())
        for key in {"country", "device", "locale", "language", "kind", "surface"} & {*columns}:
            texts = [COUNTRIES.get(one, f"<i>{one}\x1b[1m\u202e") for one in table[key].to_pylist()]
            columns[key] = pa.array(texts)
        if "name" in columns:
            columns |= _catalogue(table, genres)
        (place / path.relative_to(plain)).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), place / path.relative_to(plain))


def _catalogue(table: pa.Table, genres: dict[str, str]) -> dict[str, Any]:
    """Hostile names, texts, genres (kept in `genres`) and countries of titles."""
    rows = table["genres"].to_pylist()
    for one in sorted({genre for row in rows for genre in row or []}):
        genres.setdefault(one, (*IDS[10:16], *IDS[24:33])[len(genres) % 15] + ("" if len(genres) < 15 else one))
    places = table["available_countries"].to_pylist()
    return {
        "name": pa.array([NAMES[row] if row < len(NAMES) else f"Title {row}" for row in range(len(table))]),
        "text": pa.array([f"{one} \x00 \x1b[2J \u202e <script>" for one in table["text"].to_pylist()]),
        "genres": pa.array([[genres[genre] for genre in row or []] for row in rows]),
        "available_countries": pa.array([[COUNTRIES[one] for one in row or []] for row in places]),
    }


def named(number: int) -> str:
    """The hostile id of a number."""
    return IDS[number - 1] if 1 <= number <= len(IDS) else f"id {number}"
