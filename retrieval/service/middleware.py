"""Guard every route: token, host name, target and body; errors as problem details (RFC 9457)."""

import asyncio
import hmac
import ipaddress
import json
import logging
import re
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval.service.config import LOOPBACK
from retrieval.service.loaded_release import AmbiguousError
from stores.errors import CorruptError, MismatchError, NotFoundError, SamespaceError, StoreError, UsageError

_PUBLIC_PATHS = ("/healthz", "/readyz", "/")
"""Paths that need no token: probes cannot send one, and the page has to load before it can ask for it."""
_STATIC_PREFIX = "/explorer/"
_IN_THREADS = "/v1/explorer/"
"""Routes that wait for a thread: what nobody waits for any more is taken out of the queue."""
_HOST = re.compile(r"(localhost|[\d.]+|\[[\da-f:.]+\])(?::(\d{1,5}))?", re.ASCII | re.IGNORECASE)
_LOOPBACK_ADDRESSES = [ipaddress.ip_address(name) for name in LOOPBACK if name != "localhost"]


class RequestGuard:
    """Refuses what may not enter, as a plain ASGI application around another.

    With a token every request has to bring it (`Authorization: Bearer …`). Without one the service is on
    loopback, and a request must name loopback as its host: a page of a foreign site whose name was
    pointed at 127.0.0.1 may not read what is here.
    """

    def __init__(self, app: ASGIApp, token: str | None, max_body_bytes: int, body_timeout_s: float) -> None:
        self.app, self.max_body_bytes, self.body_timeout_s = app, max_body_bytes, body_timeout_s
        self.token = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem document."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if refusal := self._refusal(scope):
            await refusal(scope, receive, send)
            return
        body = await self._body(_values(scope), receive)
        if isinstance(body, Response):
            await body(scope, receive, send)
        elif body is not None:
            run = _while_wanted if scope["path"].startswith(_IN_THREADS) else _plainly
            await run(self.app, scope, _replay(body, receive), receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """The problem with a request's headers and target, if there is one."""
        sent = _values(scope)
        hosts = sent.get(b"host", [])
        if len(hosts) > 1 or (not hosts and scope["http_version"] != "1.0"):
            return problem(400, f"the request has {len(hosts)} Host headers", "one")
        if self.token is not None:
            if not self._has_token(scope["path"], sent.get(b"authorization", [])):
                return problem(401, "no valid token", "the header Authorization: Bearer TOKEN")
        elif not hosts or not names_loopback(hosts[0]):
            return problem(403, "this service answers on loopback only", "a request to localhost or 127.0.0.1")
        for part, raw in (("path", scope.get("raw_path") or b""), ("query", scope["query_string"])):
            if not _is_utf8(raw):
                return problem(400, f"the {part} is not UTF-8", "UTF-8, each byte beyond ASCII as %XX")
        if scope["path"].endswith("\n"):  # the patterns of routes would not see it
            return problem(404, "Not Found", fix="see /openapi.json")
        return None

    def _has_token(self, path: str, sent: list[bytes]) -> bool:
        if path in _PUBLIC_PATHS or path.startswith(_STATIC_PREFIX):
            return True
        return self.token is not None and len(sent) == 1 and hmac.compare_digest(sent[0], self.token)

    async def _body(self, sent: dict[bytes, list[bytes]], receive: Receive) -> bytes | Response | None:
        """The whole body, the problem with it, or None where the client went away before all of it was there."""
        length = sent.get(b"content-length", [b"0"])[0]
        if length.isdigit() and int(length) > self.max_body_bytes:
            return self._too_large()
        if length == b"0" and b"transfer-encoding" not in sent:
            return b""
        try:
            async with asyncio.timeout(self.body_timeout_s):
                return await self._read(receive)
        except TimeoutError:
            return problem(408, "the body did not come in time", f"all of it within {self.body_timeout_s:g} s")

    async def _read(self, receive: Receive) -> bytes | Response | None:
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.max_body_bytes:
                return self._too_large()
        return bytes(body)

    def _too_large(self) -> Response:
        return problem(413, "the body is too large", f"at most {self.max_body_bytes} bytes")


def names_loopback(host: bytes) -> bool:
    """Whether a Host header is a name or an address of loopback and nothing else, with a port or without one."""
    found = _HOST.fullmatch(host.decode("latin-1"))
    if found is None or int(found[2] or 0) > 65_535:
        return False
    name = found[1].strip("[]").lower()
    try:
        return name == "localhost" or ipaddress.ip_address(name) in _LOOPBACK_ADDRESSES
    except ValueError:
        return False


def _values(scope: Scope) -> dict[bytes, list[bytes]]:
    """The values of each header; one that a client sent twice has two."""
    sent: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        sent.setdefault(name, []).append(value)
    return sent


def _is_utf8(raw: bytes) -> bool:
    if b"%" not in raw and raw.isascii():
        return True
    try:
        unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return False
    return raw.isascii()


async def _plainly(app: ASGIApp, scope: Scope, again: Receive, _: Receive, send: Send) -> None:
    await app(scope, again, send)


async def _while_wanted(app: ASGIApp, scope: Scope, again: Receive, receive: Receive, send: Send) -> None:
    """Run an application until it has answered or its client has gone; what has begun in a thread ends there."""
    answered = False

    async def noted(message: Message) -> None:
        nonlocal answered
        answered = answered or (message["type"] == "http.response.body" and not message.get("more_body", False))
        await send(message)

    answering = asyncio.ensure_future(app(scope, again, noted))
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if answered or answering.done():
            await answering
            return
        answering.cancel()
        with suppress(asyncio.CancelledError):
            await answering
    finally:
        answering.cancel()
        leaving.cancel()


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, then what comes after it."""
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


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


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
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
