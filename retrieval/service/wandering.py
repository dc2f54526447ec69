"""What the explorer page asks for: finding titles, neighbours now and before with reasons, histories, the map."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow.compute as pc
from pydantic import BaseModel, Field

from retrieval.rows import find_row
from retrieval.service.answers import Answer, Id, Scored, facts_of
from retrieval.service.opened import Catalogue, Found, OpenRelease
from stores.columns import MEMBER_ID, TITLE_ID
from stores.release import Release

Plane = Callable[[Release], dict[str, Any]]
"""Gives the fields of `TitleMap` for the titles of a release."""
MEMBERS_SHOWN = 12


class TitleFacts(BaseModel):
    """A title as the page shows it."""

    title_id: Id
    name: str | None
    kind: str | None
    launched: int | None = Field(description="the year of its launch")
    genres: list[str]
    plays: int | None


class Matches(Answer):
    """Titles whose name or id begins with, or has, what was typed; the most played first."""

    titles: list[TitleFacts]


class Neighbour(Scored):
    """A neighbour and why it may be one."""

    genres: list[str] = Field(description="genres, those of the title asked for first")
    shared: int = Field(description="how many of its genres the title asked for has too")
    both: int | None = Field(description="members whose history has both; None where the title is not in this release")
    other_rank: int | None = Field(description="its place (from 1) in the other release's list; None where not there")


class Comparison(Answer):
    """The neighbours of one title in the live release and in the one before it."""

    before_release_id: str | None
    before_space_id: str | None
    title: TitleFacts
    members: int = Field(description="members whose history has the title")
    now: list[Neighbour]
    before: list[Neighbour]


class Seen(BaseModel):
    """One entry of a member's history."""

    title_id: Id
    name: str | None
    at: datetime | None
    value: float | None


class History(Answer):
    """A member's history, newest first, at most as many as asked for."""

    member_id: Id
    length: int
    seen: list[Seen]


class MemberLength(BaseModel):
    """A member and how long its history is."""

    member_id: Id
    length: int


class SomeMembers(Answer):
    """Some members, from short histories to long ones."""

    members: list[MemberLength]


class TitleMap(Answer):
    """Titles on a plane, lists of one length: `x` and `y` in [−1, 1], `genre` a place in `legend`."""

    title_id: list[Id]
    name: list[str]
    x: list[float]
    y: list[float]
    genre: list[int]
    legend: list[str]


def matches(opened: OpenRelease, text: str, limit: int) -> Matches:
    """Titles for what was typed: whole words' beginnings before other places, then by plays."""
    asked = text.strip().casefold()
    names = opened.folded
    plays = pc.fill_null(opened.titles["plays"], 0).to_numpy()
    rows = [row for row, name in enumerate(names) if asked in name or str(opened.ids[row]) == text.strip()]
    rows.sort(key=lambda row: (not names[row].startswith(asked), -plays[row], row))
    return Matches(**facts_of(opened), titles=[title_facts(opened, row) for row in rows[:limit]])


def title_facts(opened: Catalogue, row: int) -> TitleFacts:
    """What is known of the title of a row."""
    known = opened.titles.slice(row, 1).to_pylist()[0]
    return TitleFacts(
        title_id=opened.ids[row],
        name=opened.names[row],
        kind=known["kind"],
        launched=known["launch_time"].year if known["launch_time"] else None,
        genres=known["genres"] or [],
        plays=known["plays"],
    )


def comparison(opened: OpenRelease, before: Catalogue | None, row: int, k: int) -> Comparison:
    """A title's neighbours now and before; a title that the release before lacks has none there."""
    now = opened.similar(row, k)
    there = int(before.cosine.ids.rows([opened.ids[row]])[0]) if before else -1
    earlier = before.similar(there, k) if before and there >= 0 else []
    now_ids = [opened.ids[found] for found, _ in now]
    earlier_ids = [before.ids[found] for found, _ in earlier] if before else []
    reasons = _Reasons(opened, row)
    return Comparison(
        **facts_of(opened),
        before_release_id=before.release_id if before else None,
        before_space_id=before.space_id if before else None,
        title=title_facts(opened, row),
        members=len(reasons.members),
        now=_neighbours(opened, now, earlier_ids, reasons),
        before=_neighbours(before, earlier, now_ids, reasons) if before else [],
    )


class _Reasons:
    """Why a title may be near the one of a row: genres and members that they share."""

    def __init__(self, opened: OpenRelease, row: int) -> None:
        self.opened = opened
        self.genres = title_facts(opened, row).genres
        self.members = opened.members.of_title(row)
        self._watched = np.zeros(len(opened.members), dtype=bool)
        self._watched[self.members] = True

    def both(self, title_id: Any) -> int | None:
        """How many members have both titles; None where the live release lacks the other one."""
        row = int(self.opened.cosine.ids.rows([title_id])[0])
        return int(self._watched[self.opened.members.of_title(row)].sum()) if row >= 0 else None


def _neighbours(source: Catalogue, found: Found, others: list[Any], reasons: _Reasons) -> list[Neighbour]:
    lists = source.titles["genres"]
    answers = []
    for row, score in found:
        genres = lists[row].as_py() or []
        shared = [genre for genre in genres if genre in reasons.genres]
        title_id = source.ids[row]
        answers.append(
            Neighbour(
                title_id=title_id,
                name=source.names[row],
                score=score,
                genres=[*shared, *(genre for genre in genres if genre not in shared)],
                shared=len(shared),
                both=reasons.both(title_id),
                other_rank=others.index(title_id) + 1 if title_id in others else None,
            )
        )
    return answers


def history(opened: OpenRelease, member_id: str, limit: int) -> History:
    """A member's history, newest first."""
    member = opened.members.ids.values[opened.members.row(member_id)]
    columns = [TITLE_ID, "last_time", "value"]
    found = find_row(opened.release, "histories", MEMBER_ID, member, columns).to_pylist()
    lists = found[0] if found else {}
    titles = lists.get(TITLE_ID) or []
    entries = list(zip(*(lists.get(name) or [None] * len(titles) for name in columns), strict=True))
    rows = opened.inner.ids.rows([entry[0] for entry in entries])
    seen = [
        Seen(title_id=title, name=opened.names[row] if row >= 0 else None, at=at, value=_number(value))
        for (title, at, value), row in zip(entries, rows.tolist(), strict=True)
    ]
    return History(**facts_of(opened), member_id=member, length=len(seen), seen=seen[::-1][:limit])


def some_members(opened: OpenRelease) -> SomeMembers:
    """Members at even steps from the shortest history to the longest."""
    lengths = np.diff(opened.members.offsets)
    order = np.argsort(lengths, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(MEMBERS_SHOWN, len(order))).astype(int))
    shown = [MemberLength(member_id=opened.members.ids.values[row], length=int(lengths[row])) for row in order[places]]
    return SomeMembers(**facts_of(opened), members=shown)


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)
