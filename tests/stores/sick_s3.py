"""An S3 server that falls ill: a proxy on loopback in front of moto's that answers wrongly from the n-th request on."""

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KINDS = ("500", "503", "hang", "drop", "cut")
"""Internal error, SlowDown, no answer, a closed connection, a body that ends early."""
ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>sick</Message></Error>'
CODES = {"500": "InternalError", "503": "SlowDown"}
PASSED_ON = ("connection", "transfer-encoding", "content-length", "keep-alive")


@dataclass
class Illness:
    """What is wrong (one of KINDS, "" for nothing), from which request on, for how many of them, and for which."""

    kind: str = ""
    first: int = 0
    times: int = 10**9
    only: str = ""
    seen: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)
    healed: threading.Event = field(default_factory=threading.Event)

    def of(self, request: str) -> str:
        """What to do to a request, which is noted."""
        with self.lock:
            if not re.search(self.only, request):
                return ""
            self.seen.append(request)
            number = len(self.seen) - 1
            return self.kind if self.first <= number < self.first + self.times else ""

    def begin(self, kind: str, first: int = 0, times: int = 10**9, only: str = "") -> None:
        """Fall ill, counting requests from now on."""
        self.healed.clear()
        with self.lock:
            self.kind, self.first, self.times, self.only = kind, first, times, only
            self.seen.clear()

    def heal(self) -> None:
        """Answer rightly from now on, and let go what hangs."""
        with self.lock:
            self.kind = ""
        self.healed.set()


class Server(ThreadingHTTPServer):
    """The proxy: each request in a thread, which looks at the illness first."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self.target, self.illness = (host, int(port)), Illness()
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_: Any) -> None:
        """A client that went away is no error here."""


class Handler(BaseHTTPRequestHandler):
    """Passes a request on, or answers it wrongly."""

    protocol_version = "HTTP/1.1"
    server: Server

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.server.illness.of(f"{self.command} {self.path}")
        if kind in CODES:
            self._send(int(kind), {}, ERROR.format(code=CODES[kind]).encode())
        elif kind in ("hang", "drop"):
            if kind == "hang":
                self.server.illness.healed.wait(60)
            self._close()
        else:
            self._forward(body, cut=kind == "cut")

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass  # noqa: N815  # the names that http.server looks for

    def _forward(self, body: bytes, cut: bool) -> None:
        with closing(http.client.HTTPConnection(*self.server.target, timeout=60)) as connection:
            connection.request(self.command, self.path, body, dict(self.headers))
            reply = connection.getresponse()
            headers = {name: value for name, value in reply.getheaders() if name.lower() not in PASSED_ON}
            self._send(reply.status, headers, reply.read(), cut, reply.getheader("Content-Length"))

    def _send(
        self, status: int, headers: dict[str, str], body: bytes, cut: bool = False, length: str | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length or "0" if self.command == "HEAD" else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._close()

    def _close(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Be quiet."""


@contextmanager
def sick_proxy(target: str) -> Iterator[tuple[str, Illness]]:
    """The address of a proxy in front of a server, and what is wrong with it."""
    server = Server(target)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server.illness
    finally:
        server.illness.heal()
        server.shutdown()
        server.server_close()
