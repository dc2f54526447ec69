"""The routes for whatever watches the service: is it alive, may it be sent requests, and its figures.

`/healthz` is for restarting: it answers 503 where a new process would help. `/readyz` is for a load balancer: it also
answers 503 where this process is further behind the live release than it may be.
"""

from fastapi import APIRouter, Response

from retrieval.service.config import ServeConfig
from retrieval.service.metrics import Metrics
from retrieval.service.middleware import NotServingError, problem_responses
from retrieval.service.release_watcher import ReleaseWatcher, Standing
from retrieval.service.routes import current_release
from retrieval.service.schemas import Health, release_fields


def routes(live: ReleaseWatcher, config: ServeConfig, metrics: Metrics) -> APIRouter:
    """The router of `/healthz`, `/readyz` and `/metrics`."""
    router = APIRouter(tags=["watching"])
    take = current_release(live)

    def health() -> Health:
        opened, standing = take(), live.standing()
        _refuse_stuck(standing, config.heartbeat_limit_s)
        return Health(
            **release_fields(opened),
            status="ok" if opened.release_id == standing.live and not standing.behind_s else "behind",
            revision=opened.release.manifest.revision,
            live_release_id=standing.live,
            behind_s=round(standing.behind_s, 3),
            heartbeat_age_s=None if standing.heartbeat_age_s is None else round(standing.heartbeat_age_s, 3),
            failures=standing.failures,
            error=standing.error,
        )

    @router.get("/healthz", responses=problem_responses())
    async def healthz() -> Health:
        """200 with what is served and what is live; 503 before the first release, or where following has stopped."""
        return health()

    @router.get("/readyz", responses=problem_responses())
    async def readyz() -> Health:
        """As `/healthz`, and 503 where the service is behind for longer than `serve.max_behind_s`."""
        found = health()
        if config.max_behind_s is not None and found.behind_s > config.max_behind_s:
            raise NotServingError(
                f"release {found.release_id} is served, {found.live_release_id} is live for {found.behind_s:.0f} s",
                expected=f"at most {config.max_behind_s:g} s behind",
                fix="the service's log says why the live release cannot be opened",
            )
        return found

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def exposition() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _refuse_stuck(standing: Standing, limit: float) -> None:
    """Raise NotServingError where no thread follows the pointer any more, or one hangs."""
    age = standing.heartbeat_age_s
    if age is not None and (age > limit or not standing.watching):
        raise NotServingError(
            f"the pointer was last looked at {age:.0f} s ago; release {standing.served} is served",
            expected=f"a look within {limit:g} s",
            fix="start the service again; its log says where it hangs",
        )
