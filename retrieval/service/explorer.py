"""The explorer: the page at `/` with its files, and the routes under `/v1/explorer` that only it asks."""

import json
import threading
from collections.abc import Callable
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from retrieval.service import wandering
from retrieval.service.answers import facts_of
from retrieval.service.config import ServeConfig
from retrieval.service.live import Live
from retrieval.service.opened import OpenRelease
from retrieval.service.parameters import known_parameters
from retrieval.service.problems import documented, problem
from retrieval.service.public import MemberId, TitleId, current

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


def routes(live: Live, config: ServeConfig, plane: wandering.Plane) -> APIRouter:
    """What the page asks for, under `/v1/explorer`; in threads, since some of it takes a while."""
    router = APIRouter(prefix="/v1/explorer", tags=["explorer"], dependencies=[Depends(known_parameters)])
    take = current(live)

    @router.get("/titles", responses=documented(422))
    def titles(
        q: Annotated[str, Query(max_length=200)] = "", limit: Annotated[int, Query(ge=1, le=50)] = 12
    ) -> wandering.Matches:
        """Titles for what was typed; the most played ones where nothing was."""
        return wandering.matches(take(), q, limit)

    @router.get("/titles/{title_id:id}/compare", responses=documented(404, 409, 422))
    def compare(
        title_id: TitleId, k: Annotated[int, Query(ge=1, le=min(50, config.max_k))] = 12
    ) -> wandering.Comparison:
        """A title's neighbours now and in the release before, with what speaks for each."""
        opened = take()
        return wandering.comparison(opened, live.before(opened), opened.title(title_id), k)

    @router.get("/members", responses=documented(422))
    def members() -> wandering.SomeMembers:
        """Some members to begin with."""
        return wandering.some_members(take())

    @router.get("/members/{member_id:id}/history", responses=documented(404, 422))
    def history(member_id: MemberId, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> wandering.History:
        """A member's history, newest first."""
        return wandering.history(take(), member_id, limit)

    _map(router, take, plane)
    return router


def _map(router: APIRouter, take: Callable[[], OpenRelease], plane: wandering.Plane) -> None:
    drawn: dict[str, bytes] = {}
    drawing = threading.Lock()

    @router.get("/map", responses=documented(422), response_model=wandering.TitleMap)
    def title_map() -> Response:
        """The map of the titles: places, names and main genres, all lists of one length."""
        opened = take()
        with drawing:  # many may ask at once for the first map of a release; it is drawn once
            points = drawn.get(opened.release_id)
            if points is None:
                points = json.dumps(facts_of(opened) | plane(opened.release), allow_nan=False).encode()
                drawn.clear()
                drawn[opened.release_id] = points
        return Response(points, media_type="application/json")
