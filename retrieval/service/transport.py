"""Connections within bounds: deadlines for headers, bodies and slow readers, and limits on what a connection may hold.

uvicorn alone keeps a connection that sends nothing, or one byte an hour, for ever. This is its protocol for httptools
with a deadline for each phase of a request. Where there are too many connections, the one that has been idle or sending
its request longest gives way, so that slow clients cannot keep out quick ones, probes of health among them.
"""

import asyncio
import time
from http import HTTPStatus
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from retrieval.service.config import ServeConfig
from retrieval.service.middleware import MEDIA_TYPE, problem

PIPELINED = 32
"""Requests that a connection may send before the first of them is answered."""
HEADERS = 100
"""Headers of one request; each takes some hundred bytes of memory however short it is."""
_GRACE_S = 10


class RefusedError(Exception):
    """A request that breaks a limit of the connection, with the problem document that says so."""

    def __init__(self, status: int, what: str, expected: str = "") -> None:
        super().__init__(what)
        self.status, self.what, self.expected = status, what, expected


class BoundedProtocol(HttpToolsProtocol):
    """One connection, within the limits of `settings`.

    `phase` is "head" while request line and headers come in, "body" while the body does, "answer" while the request is
    answered, "idle" between requests; `since` is when it began (monotonic seconds).
    """

    settings: ClassVar[ServeConfig] = ServeConfig()
    phase = "head"
    since = 0.0
    _head = 0
    _refused: RefusedError | None = None
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection; above the limit another one gives way, or this one where all others are being answered."""
        super().connection_made(transport)
        self._enter("head", self.settings.header_timeout_s)
        if len(self.connections) > self.settings.max_connections and not self._make_room():
            self._answer(503, f"{self.settings.max_connections} connections are being answered", "a later request")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._enter("idle", None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came in; headers that never end are refused by their size."""
        if self.parser is None or self.transport.is_closing():
            return
        if self.phase == "idle":
            self._head = 0
            self._enter("head", self.settings.header_timeout_s)
        super().data_received(data)
        if self.phase == "head" and self.parser is not None and not self.transport.is_closing():
            self._head += len(data)
            if self._head > self.settings.max_header_bytes:
                self._answer(431, *self._too_large())

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.pipeline) >= PIPELINED:
            raise self._refuse(429, f"more than {PIPELINED} requests wait on one connection", "answers read in between")
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the request line."""
        super().on_url(url)
        if len(self.url) > self.settings.max_header_bytes:
            raise self._refuse(414, "the request line is too long", f"at most {self.settings.max_header_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header."""
        super().on_header(name, value)
        if len(self.headers) > HEADERS:
            raise self._refuse(431, "there are too many headers", f"at most {HEADERS}")

    def on_headers_complete(self) -> None:
        """Hand the request to the application."""
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.settings.max_header_bytes:
            raise self._refuse(431, *self._too_large())
        if not self.url.startswith(b"/"):
            raise self._refuse(400, "the request names more than a path", "a request target that begins with /")
        super().on_headers_complete()
        if not self.pipeline:
            self._enter("body", self.settings.body_timeout_s)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._enter("answer", None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is written; whoever does not read it is cut off."""
        if self.transport.get_write_buffer_size():
            self.loop.call_later(self.settings.send_timeout_s, self._cut)
        waits = bool(self.pipeline)
        super().on_response_complete()
        if not waits:
            self._enter("idle", None)
        elif self.cycle.more_body:  # of a request that waited for its turn; reading was paused until now
            self._enter("body", self.settings.body_timeout_s)

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed with a problem document."""
        refused = self._refused or RefusedError(400, msg, "HTTP/1.1, in the target only ASCII and %XX")
        self._answer(refused.status, refused.what, refused.expected)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection between two requests."""
        if self.phase == "idle":
            super().timeout_keep_alive_handler()

    def _enter(self, phase: str, seconds: float | None) -> None:
        """Begin a phase that may last some seconds, or any time."""
        if self._deadline is not None:
            self._deadline.cancel()
        self.phase, self.since = phase, time.monotonic()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._expired)

    def _expired(self) -> None:
        if self.transport.is_closing():
            self.transport.abort()
        elif self.phase == "head" and not self._head:
            self.transport.close()  # opened ahead of a request that never came: there is nothing to answer
        else:
            limit = self.settings.header_timeout_s if self.phase == "head" else self.settings.body_timeout_s
            self._answer(408, f"the {self.phase} of the request did not come in time", f"all of it within {limit:g} s")

    def _cut(self) -> None:
        """Abort a connection whose answer was not read."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.transport.abort()

    def _make_room(self) -> bool:
        """Abort the connection that has been idle, or sending its request, longest; whether there was one."""
        waiting = [one for one in self.connections if one is not self and getattr(one, "phase", "answer") != "answer"]
        if not waiting:
            return False
        oldest: Any = min(waiting, key=lambda one: one.since)  # type: ignore[union-attr]
        oldest.transport.abort()
        self.connections.discard(oldest)  # `connection_lost` comes with the next turn of the loop
        return True

    def _refuse(self, status: int, what: str, expected: str) -> RefusedError:
        """An exception for httptools, which only says that there was one; `send_400_response` answers it."""
        self._refused = RefusedError(status, what, expected)
        return self._refused

    def _too_large(self) -> tuple[str, str]:
        return "request line and headers are too large", f"at most {self.settings.max_header_bytes} bytes"

    def _answer(self, status: int, what: str, expected: str) -> None:
        """Write a problem document past the application, unless an answer has begun, and close."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = bytes(problem(status, what, expected).body)
            line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            head = f"{line}content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()
        self.loop.call_later(self.settings.send_timeout_s, self._cut)


def server(app: Any, settings: ServeConfig, **others: Any) -> uvicorn.Server:
    """A server of an application, within the limits of the settings; `others` go to `uvicorn.Config`."""
    bounded = type("Bounded", (BoundedProtocol,), {"settings": settings})
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=bounded,
            ws="none",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]
            timeout_graceful_shutdown=_GRACE_S,
            **others,
        )
    )
