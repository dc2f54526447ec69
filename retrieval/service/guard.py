"""What stands before every route: the token, the host name of a service on loopback, and the size of a body."""

import hmac

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from retrieval.service.config import LOOPBACK
from retrieval.service.problems import problem

_OPEN = ("/healthz", "/")
"""Paths that need no token: probes cannot send one, and the page has to load before it can ask for it."""
_STATIC = "/explorer/"


class Guard:
    """Refuses what may not enter, as a plain ASGI application around another.

    With a token every request has to bring it (`Authorization: Bearer …`). Without one the service is on
    loopback, and a request must name loopback as its host: a page of a foreign site whose name was
    pointed at 127.0.0.1 may not read what is here.
    """

    def __init__(self, app: ASGIApp, token: str | None, max_body_bytes: int) -> None:
        self.app, self.max_body_bytes = app, max_body_bytes
        self.token = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a problem document."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self.token is not None and not self._has_token(scope["path"], headers):
            answer = problem(401, "no valid token", "the header Authorization: Bearer TOKEN")
            await answer(scope, receive, send)
        elif self.token is None and not _names_loopback(headers.get(b"host", b"")):
            answer = problem(403, "this service answers on loopback only", "a request to localhost or 127.0.0.1")
            await answer(scope, receive, send)
        elif (body := await self._body(headers, receive)) is None:
            answer = problem(413, "the body is too large", f"at most {self.max_body_bytes} bytes")
            await answer(scope, receive, send)
        else:
            await self.app(scope, _replay(body, receive), send)

    def _has_token(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if path in _OPEN or path.startswith(_STATIC):
            return True
        return self.token is not None and hmac.compare_digest(headers.get(b"authorization", b""), self.token)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """The whole body; None where it is larger than allowed, told by its length or found while reading."""
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.max_body_bytes:
            return None
        if length == b"0" and b"transfer-encoding" not in headers:
            return b""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self.max_body_bytes:
                return None
        return body


def _names_loopback(host: bytes) -> bool:
    name = host.decode("latin-1").rsplit(":", 1)[0] if not host.endswith(b"]") else host.decode("latin-1")
    return name.strip("[]") in LOOPBACK


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read already, then what comes after it."""
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again
