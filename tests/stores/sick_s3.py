"""An S3 server that falls ill: a proxy on loopback in front of moto's that answers wrongly from the n-th request on."""

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def sick_proxy(target: str) -> Iterator[tuple[str, Illness]]:
    """The address of a proxy in front of a server, and what is wrong with it."""
    host, _, port = target.removeprefix("http://").partition(":")
    illness = Illness()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self._body()
            kind = illness.of(f"{self.command} {self.path}")
            if kind in CODES:
                self._send(int(kind), {}, ERROR.format(code=CODES[kind]).encode())
            elif kind == "hang":
                illness.healed.wait(60)
                self._close()
            elif kind == "drop":
                self._close()
            else:
                self._forward(body, cut=kind == "cut")

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _forward(self, body: bytes, cut: bool) -> None:
            connection = http.client.HTTPConnection(host, int(port), timeout=60)
            try:
                connection.request(self.command, self.path, body, dict(self.headers))
                reply = connection.getresponse()
                headers = {name: value for name, value in reply.getheaders() if name.lower() not in PASSED_ON}
                length = reply.getheader("Content-Length")
                self._send(reply.status, headers, reply.read(), cut, length)
            finally:
                connection.close()

        def _send(
            self, status: int, headers: dict[str, str], body: bytes, cut: bool = False, length: str | None = None
        ) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(body)) if self.command == "HEAD" else str(len(body)))
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

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            """A client that went away is no error here."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", illness
    finally:
        illness.heal()
        server.shutdown()
        server.server_close()
