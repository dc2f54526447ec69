"""Queries and routes of the explorer page: titles, neighbours now and before with reasons, histories, the map."""

import json
import threading
from collections.abc import Callable
from datetime import datetime
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
import pyarrow.compute as pc
from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from retrieval.release_reader import find_row
from retrieval.service.config import ServeConfig
from retrieval.service.loaded_release import LoadedRelease, RowScores, TitleCatalogue
from retrieval.service.middleware import problem, problem_responses
from retrieval.service.release_watcher import ReleaseWatcher
from retrieval.service.request_parameters import known_parameters
from retrieval.service.routes import MemberId, TitleId, current_release
from retrieval.service.schemas import Id, ReleaseAnswer, ScoredTitle, release_fields
from stores.releases.release import Release
from stores.schema import MEMBER_ID, TITLE_ID

TitleMapFn = Callable[[Release], dict[str, Any]]
"""Gives the fields of `TitleMap` for the titles of a release."""
MAX_SAMPLE_MEMBERS = 12


class TitleFacts(BaseModel):
    """A title as the page shows it."""

    title_id: Id
    name: str | None
    kind: str | None
    launched: int | None = Field(description="the year of its launch")
    genres: list[str]
    plays: int | None


class TitleMatches(ReleaseAnswer):
    """Titles whose name or id begins with, or has, what was typed; the most played first."""

    titles: list[TitleFacts]


class Neighbour(ScoredTitle):
    """A neighbour and why it may be one."""

    genres: list[str] = Field(description="genres, those of the title asked for first")
    shared: int = Field(description="how many of its genres the title asked for has too")
    both: int | None = Field(description="members whose history has both; None where the title is not in this release")
    other_rank: int | None = Field(description="its place (from 1) in the other release's list; None where not there")


class Comparison(ReleaseAnswer):
    """The neighbours of one title in the live release and in the one before it."""

    before_release_id: str | None
    before_space_id: str | None
    title: TitleFacts
    members: int = Field(description="members whose history has the title")
    now: list[Neighbour]
    before: list[Neighbour]


class HistoryEntry(BaseModel):
    """One entry of a member's history."""

    title_id: Id
    name: str | None
    at: datetime | None
    value: float | None


class MemberHistory(ReleaseAnswer):
    """A member's history, newest first, at most as many as asked for."""

    member_id: Id
    length: int
    seen: list[HistoryEntry]


class MemberLength(BaseModel):
    """A member and how long its history is."""

    member_id: Id
    length: int


class SampleMembers(ReleaseAnswer):
    """Some members, from short histories to long ones."""

    members: list[MemberLength]


class TitleMap(ReleaseAnswer):
    """Titles on a plane, lists of one length: `x` and `y` in [−1, 1], `genre` a place in `legend`."""

    title_id: list[Id]
    name: list[str]
    x: list[float]
    y: list[float]
    genre: list[int]
    legend: list[str]


def match_titles(opened: LoadedRelease, text: str, limit: int) -> TitleMatches:
    """Titles for what was typed: whole words' beginnings before other places, then by plays."""
    asked = text.strip().casefold()
    names = opened.folded
    plays = pc.fill_null(opened.titles["plays"], 0).to_numpy()
    rows = [row for row, name in enumerate(names) if asked in name or str(opened.ids[row]) == text.strip()]
    rows.sort(key=lambda row: (not names[row].startswith(asked), -plays[row], row))
    return TitleMatches(**release_fields(opened), titles=[title_facts(opened, row) for row in rows[:limit]])


def title_facts(opened: TitleCatalogue, row: int) -> TitleFacts:
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


def compare_neighbours(opened: LoadedRelease, before: TitleCatalogue | None, row: int, k: int) -> Comparison:
    """A title's neighbours now and before; a title that the release before lacks has none there."""
    now = opened.similar(row, k)
    there = int(before.cosine.ids.rows([opened.ids[row]])[0]) if before else -1
    earlier = before.similar(there, k) if before and there >= 0 else []
    now_ids = [opened.ids[found] for found, _ in now]
    earlier_ids = [before.ids[found] for found, _ in earlier] if before else []
    reasons = _Reasons(opened, row)
    return Comparison(
        **release_fields(opened),
        before_release_id=before.release_id if before else None,
        before_space_id=before.space_id if before else None,
        title=title_facts(opened, row),
        members=len(reasons.members),
        now=_neighbours(opened, now, earlier_ids, reasons),
        before=_neighbours(before, earlier, now_ids, reasons) if before else [],
    )


class _Reasons:
    """Why a title may be near the one of a row: genres and members that they share."""

    def __init__(self, opened: LoadedRelease, row: int) -> None:
        self.opened = opened
        self.genres = title_facts(opened, row).genres
        self.members = opened.members.of_title(row)
        self._watched = np.zeros(len(opened.members), dtype=bool)
        self._watched[self.members] = True

    def both(self, title_id: Any) -> int | None:
        """How many members have both titles; None where the live release lacks the other one."""
        row = int(self.opened.cosine.ids.rows([title_id])[0])
        return int(self._watched[self.opened.members.of_title(row)].sum()) if row >= 0 else None


def _neighbours(source: TitleCatalogue, found: RowScores, others: list[Any], reasons: _Reasons) -> list[Neighbour]:
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


def member_history(opened: LoadedRelease, member_id: str, limit: int) -> MemberHistory:
    """A member's history, newest first."""
    member = opened.members.ids.values[opened.members.row(member_id)]
    columns = [TITLE_ID, "last_time", "value"]
    found = find_row(opened.release, "histories", MEMBER_ID, member, columns).to_pylist()
    lists = found[0] if found else {}
    titles = lists.get(TITLE_ID) or []
    entries = list(zip(*(lists.get(name) or [None] * len(titles) for name in columns), strict=True))
    rows = opened.inner.ids.rows([entry[0] for entry in entries])
    seen = [
        HistoryEntry(title_id=title, name=opened.names[row] if row >= 0 else None, at=at, value=_number(value))
        for (title, at, value), row in zip(entries, rows.tolist(), strict=True)
    ]
    return MemberHistory(**release_fields(opened), member_id=member, length=len(seen), seen=seen[::-1][:limit])


def sample_members(opened: LoadedRelease) -> SampleMembers:
    """Members at even steps from the shortest history to the longest."""
    lengths = np.diff(opened.members.offsets)
    order = np.argsort(lengths, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(MAX_SAMPLE_MEMBERS, len(order))).astype(int))
    shown = [MemberLength(member_id=opened.members.ids.values[row], length=int(lengths[row])) for row in order[places]]
    return SampleMembers(**release_fields(opened), members=shown)


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page() -> APIRouter:
    """The page and its files; names are looked up in a list made at the start, never joined to a path."""
    router = APIRouter(include_in_schema=False)
    folder = files("retrieval.service").joinpath("explorer")
    known = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name.split(".")[-1] in _KINDS}

    def served(name: str) -> Response:
        if name not in known:
            return problem(404, f"there is no file {name}")
        kind = _KINDS[name.rsplit(".", 1)[-1]]
        return Response(known[name], headers=_HEADERS, media_type=f"{kind}; charset=utf-8")

    @router.get("/")
    async def index() -> Response:
        return served("index.html")

    @router.get("/explorer/{name}")
    async def file(name: str) -> Response:
        return served(name)

    return router


def routes(live: ReleaseWatcher, config: ServeConfig, plane: TitleMapFn) -> APIRouter:
    """What the page asks for, under `/v1/explorer`; in threads, since some of it takes a while."""
    router = APIRouter(prefix="/v1/explorer", tags=["explorer"], dependencies=[Depends(known_parameters)])
    take = current_release(live)

    @router.get("/titles", responses=problem_responses(422))
    def titles(
        q: Annotated[str, Query(max_length=200)] = "", limit: Annotated[int, Query(ge=1, le=50)] = 12
    ) -> TitleMatches:
        """Titles for what was typed; the most played ones where nothing was."""
        return match_titles(take(), q, limit)

    @router.get("/titles/{title_id:id}/compare", responses=problem_responses(404, 409, 422))
    def compare(title_id: TitleId, k: Annotated[int, Query(ge=1, le=min(50, config.max_k))] = 12) -> Comparison:
        """A title's neighbours now and in the release before, with what speaks for each."""
        opened = take()
        return compare_neighbours(opened, live.previous_catalogue(opened), opened.title(title_id), k)

    @router.get("/members", responses=problem_responses(422))
    def members() -> SampleMembers:
        """Some members to begin with."""
        return sample_members(take())

    @router.get("/members/{member_id:id}/history", responses=problem_responses(404, 422))
    def history(member_id: MemberId, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> MemberHistory:
        """A member's history, newest first."""
        return member_history(take(), member_id, limit)

    _map(router, take, plane)
    return router


def _map(router: APIRouter, take: Callable[[], LoadedRelease], plane: TitleMapFn) -> None:
    drawn: dict[str, bytes] = {}
    drawing = threading.Lock()

    @router.get("/map", responses=problem_responses(422), response_model=TitleMap)
    def title_map() -> Response:
        """The map of the titles: places, names and main genres, all lists of one length."""
        opened = take()
        with drawing:  # many may ask at once for the first map of a release; it is drawn once
            points = drawn.get(opened.release_id)
            if points is None:
                points = json.dumps(release_fields(opened) | plane(opened.release), allow_nan=False).encode()
                drawn.clear()
                drawn[opened.release_id] = points
        return Response(points, media_type="application/json")
