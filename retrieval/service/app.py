"""The application: routes, guard, metrics and problem documents, put together around one live release."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from retrieval.service import explorer, health, routes
from retrieval.service.config import ServeConfig
from retrieval.service.explorer import TitleMapFn
from retrieval.service.metrics import Metrics, MetricsMiddleware
from retrieval.service.middleware import Problem, RequestGuard, add_handlers
from retrieval.service.release_watcher import ReleaseWatcher

_DESCRIPTION = "Candidates, similar titles and embeddings of the live release; every answer names its release."


def create_app(live: ReleaseWatcher, config: ServeConfig, plane: TitleMapFn, token: str | None = None) -> FastAPI:
    """The service of a workspace's live release, which it follows from startup to shutdown.

    `plane` makes the map of a release's titles. With a `token` every request but the page's files and
    `/healthz` has to bring it; without one only requests that name loopback are answered.
    """
    metrics = Metrics(live)

    @asynccontextmanager
    async def following(_: FastAPI) -> AsyncIterator[None]:
        live.start()
        yield
        live.stop()

    app = FastAPI(title="samespace", lifespan=following, docs_url=None, redoc_url=None, version=_version())
    app.router.redirect_slashes = False  # a slash may belong to an id
    app.include_router(routes.routes(live, config))
    app.include_router(explorer.routes(live, config, plane))
    app.include_router(explorer.page())
    app.include_router(health.routes(live, config, metrics))
    add_handlers(app)
    app.add_middleware(
        RequestGuard, token=token, max_body_bytes=config.max_body_bytes, body_timeout_s=config.body_timeout_s
    )
    app.add_middleware(MetricsMiddleware, metrics=metrics)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the problem document and the token in it; made once."""
    if not app.openapi_schema:
        made = get_openapi(title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes)
        parts = made.setdefault("components", {})
        parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{}, {"token": []}]
        app.openapi_schema = made
    return app.openapi_schema


def _version() -> str:
    try:
        return version("samespace")
    except PackageNotFoundError:
        return "0"
