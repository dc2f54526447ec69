"""The routes for programs: candidates, similar titles, embeddings, search by vector, and what is live.

Each takes the live release once and answers from it alone. They are `async` without awaiting: a search
takes less than handing it to a thread would, and processes, not threads, make a service wider.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from retrieval.service import schemas
from retrieval.service.config import ServeConfig
from retrieval.service.loaded_release import LoadedRelease, RowScores, TitleFilter
from retrieval.service.middleware import NoReleaseError, SpaceConflictError, problem_responses
from retrieval.service.release_watcher import ReleaseWatcher
from retrieval.service.request_parameters import known_parameters
from stores.errors import UsageError
from stores.schema import EVENT_TIME, RELEASE_ID

Country = Annotated[str | None, Query(max_length=64, description="only titles available there")]
Maturity = Annotated[int | None, Query(ge=0, le=2**31 - 1, description="only titles up to this maturity")]
MemberId = Annotated[str, Path(description="the member's id")]
TitleId = Annotated[str, Path(description="the title's id, or a name that matches one")]


def current_release(live: ReleaseWatcher) -> Callable[[], LoadedRelease]:
    """A function that gives the live release. It raises NoReleaseError before the first one."""

    def take() -> LoadedRelease:
        if live.current is None:
            raise NoReleaseError("nothing is published yet", fix="samespace nightly --lake LAKE")
        return live.current

    return take


def routes(live: ReleaseWatcher, config: ServeConfig) -> APIRouter:
    """The router of `/v1` for programs."""
    router = APIRouter(prefix="/v1", tags=["retrieval"], dependencies=[Depends(known_parameters)])
    _by_id(router, current_release(live), config)
    _by_vector(router, current_release(live), config)
    _release(router, current_release(live))
    return router


def _titles(opened: LoadedRelease, found: RowScores) -> Response:
    """The answer as bytes at once: FastAPI would check and copy again what was made just now."""
    made = schemas.TitleList(**schemas.release_fields(opened), titles=schemas.scored_titles(opened, found))
    return Response(made.model_dump_json(), media_type="application/json")


def _by_id(router: APIRouter, take: Callable[[], LoadedRelease], config: ServeConfig) -> None:
    k_of = Query(ge=1, le=config.max_k, description="how many titles")

    @router.get(
        "/members/{member_id:id}/candidates", response_model=schemas.TitleList, responses=problem_responses(404, 422)
    )
    async def candidates(
        member_id: MemberId,
        k: Annotated[int, k_of] = 10,
        exclude_seen: bool = True,
        country: Country = None,
        max_maturity: Maturity = None,
    ) -> Response:
        """The best titles for a member by inner product; seen ones are left out unless `exclude_seen` is false."""
        opened = take()
        found = opened.candidates(opened.members.row(member_id), k, exclude_seen, TitleFilter(country, max_maturity))
        return _titles(opened, found)

    @router.get(
        "/titles/{title_id:id}/similar", response_model=schemas.TitleList, responses=problem_responses(404, 409, 422)
    )
    async def similar(
        title_id: TitleId, k: Annotated[int, k_of] = 10, country: Country = None, max_maturity: Maturity = None
    ) -> Response:
        """The titles most like one, by cosine in the aligned space, without itself."""
        opened = take()
        found = opened.similar(opened.title(title_id), k, TitleFilter(country, max_maturity))
        return _titles(opened, found)

    @router.get("/members/{member_id:id}/embedding", responses=problem_responses(404, 422))
    async def embedding(member_id: MemberId) -> schemas.Embedding:
        """A member's vector in the space, as published."""
        opened = take()
        row = opened.members.row(member_id)
        changes = opened.members.changes
        return schemas.Embedding(
            **schemas.release_fields(opened),
            member_id=opened.members.ids.values[row],
            embedding=opened.members.vectors[row].tolist(),
            changed_in=changes[RELEASE_ID][row].as_py(),
            event_time=changes[EVENT_TIME][row].as_py(),
        )


def _by_vector(router: APIRouter, take: Callable[[], LoadedRelease], config: ServeConfig) -> None:
    @router.post("/search", response_model=schemas.TitleList, responses=problem_responses(400, 409, 413, 422))
    async def search(query: schemas.Query) -> Response:
        """The titles nearest a vector, for example one read from Feast; `space_id` refuses one of another space."""
        opened = take()
        if query.k > config.max_k or len(query.exclude) > config.max_exclude:
            most = f"k up to {config.max_k}, up to {config.max_exclude} excluded ids"
            raise UsageError(f"k is {query.k}, {len(query.exclude)} ids are excluded", expected=most)
        if query.space_id not in (None, opened.space_id):
            raise SpaceConflictError(
                f"the vector is of space {query.space_id}, release {opened.release_id} of space {opened.space_id}",
                fix="take the vector from the live release",
            )
        limits = TitleFilter(query.country, query.max_maturity)
        found = opened.search(query.vector, query.k, query.exclude, limits, query.metric == "cosine")
        return _titles(opened, found)


def _release(router: APIRouter, take: Callable[[], LoadedRelease]) -> None:
    @router.get("/release", responses=problem_responses(422))
    async def release() -> schemas.ReleaseFacts:
        """What is live: release, space, model, sizes, and the measured recall of its indexes."""
        opened = take()
        manifest = opened.release.manifest
        return schemas.ReleaseFacts(
            **schemas.release_fields(opened),
            model_id=manifest.model_id,
            as_of=manifest.plan.as_of,
            sealed_at=manifest.sealed_at,
            previous_release=manifest.plan.previous_release,
            titles=len(opened.ids),
            members=len(opened.members),
            dim=opened.inner.dim,
            candidates_recall=opened.inner.recall,
            similar_recall=opened.cosine.recall,
        )
