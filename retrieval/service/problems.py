"""Errors as problem documents (RFC 9457): what went wrong, what was expected, what to do. Never a stack trace."""

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from retrieval.service.opened import AmbiguousError
from stores.errors import CorruptError, MismatchError, NotFoundError, SamespaceError, StoreError, UsageError

log = logging.getLogger("samespace.serve")
MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong, as RFC 9457 has it, with what was expected and what to do."""

    type: str = "about:blank"
    title: str = Field(description="the status in words")
    status: int
    what: str
    expected: str = ""
    fix: str = ""


class NoReleaseError(SamespaceError):
    """Nothing is published yet, so nothing can be answered."""


class NotServingError(SamespaceError):
    """The service does not do what it should for those who watch it."""


class SpaceConflictError(SamespaceError):
    """A vector of one space was asked of a release of another."""


_STATUS: list[tuple[type[SamespaceError], int]] = [
    (NoReleaseError, 503),
    (NotServingError, 503),
    (SpaceConflictError, 409),
    (AmbiguousError, 409),
    (NotFoundError, 404),
    (UsageError, 422),
    (MismatchError, 422),
    (CorruptError, 503),
    (StoreError, 503),
]


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problem documents of a route, for the OpenAPI document; those of every route included."""
    known = sorted({*statuses, 401, 403, 500, 503})
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in known}


def problem(status: int, what: str, expected: str = "", fix: str = "") -> Response:
    """A problem document as a response."""
    words = (text.encode("utf-8", "backslashreplace").decode() for text in (what, expected, fix))  # lone surrogates
    said = dict(zip(("what", "expected", "fix"), words, strict=True))
    body = Problem(title=HTTPStatus(status).phrase, status=status, **said)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return Response(body.model_dump_json(), status, headers, MEDIA_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Every exception of a route becomes a problem document."""

    @app.exception_handler(SamespaceError)
    async def known(_: Request, error: SamespaceError) -> Response:
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        if status >= 500:  # `where` names places on this machine: it goes to the log, not to the caller
            log.error("%s", error)
        return problem(status, error.what, error.expected, error.fix)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        faults = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()]
        return problem(422, "; ".join(faults), expected="what /openapi.json says of this path")

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        answer = problem(error.status_code, str(error.detail), fix="see /openapi.json")
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> Response:
        log.error("%s", json.dumps({"error": type(error).__name__, "text": str(error)}), exc_info=error)
        return problem(500, "the service failed", fix="the service's log has the reason")
