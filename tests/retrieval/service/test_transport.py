"""Connections within bounds: slow, greedy, silent and rude clients are cut off, and everyone else is answered."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from retrieval.service import ServeConfig, create_app

HOST = b"host: localhost\r\n"
SHORT = {"header_timeout_s": 0.3, "body_timeout_s": 0.3, "send_timeout_s": 0.3, "keep_alive_s": 0.3}


class Server:
    """The service at an address, and raw connections to it."""

    def __init__(self, url: str) -> None:
        self.url, self.port = url, int(url.rsplit(":", 1)[1])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def say(self, data: bytes) -> bytes:
        """Everything that comes back until the service closes the connection."""
        with self.connect() as sock:
            sock.sendall(data)
            return rest(sock)

    def healthy(self) -> bool:
        return httpx.get(f"{self.url}/healthz").status_code == 200


def rest(sock: socket.socket) -> bytes:
    """All bytes until the other side closes; a reset is a close."""
    found = b""
    while True:
        try:
            part = sock.recv(65_536)
        except ConnectionError:
            return found
        if not part:
            return found
        found += part


def problem(answer: bytes) -> dict:
    """The problem document of a raw answer, of the status that its line says."""
    head, body = answer.split(b"\r\n\r\n", 1)
    found = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % found["status"])
    assert b"application/problem+json" in head
    return found


@pytest.fixture
def short(live, plane, listen) -> Iterator[Server]:
    """With deadlines that a test can wait for."""
    settings = ServeConfig(**SHORT)
    with listen(create_app(live, settings, plane), settings) as url:
        yield Server(url)


@pytest.fixture
def patient(live, plane, listen) -> Iterator[Server]:
    """With the deadlines of production, and few connections."""
    settings = ServeConfig(max_connections=8)
    with listen(create_app(live, settings, plane), settings) as url:
        yield Server(url)


@pytest.mark.parametrize(
    ("begun", "status", "word"),
    [
        (b"GET /v1/rel", 408, "head"),
        (b"GET /healthz HTTP/1.1\r\nhost: loc", 408, "head"),
        (b"POST /v1/search HTTP/1.1\r\n" + HOST + b"content-length: 40\r\n\r\n{", 408, "body"),
        (b"POST /v1/search HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n5\r\n{", 408, "body"),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"content-length: 40\r\n\r\n{", 408, "body"),
    ],
)
def test_a_request_that_does_not_come_in_time_is_answered_and_closed(short, begun, status, word):
    found = problem(short.say(begun))
    assert found["status"] == status
    assert word in found["what"]


def test_a_connection_that_says_nothing_or_trickles_is_closed(short):
    assert short.say(b"") == b""
    with short.connect() as sock, ExitStack() as stack:
        stop = threading.Event()
        stack.callback(stop.set)

        def trickle():
            while not stop.wait(0.05):
                try:
                    sock.sendall(b"x")
                except OSError:
                    return

        sock.sendall(b"GET / HTTP/1.1\r\nx-y: ")
        threading.Thread(target=trickle, daemon=True).start()
        assert short.healthy()
        rest(sock)  # ends only if the service closes it, however often a byte comes


def test_line_breaks_between_requests_do_not_keep_a_connection(short):
    with short.connect() as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200 ")
        sock.sendall(b"\r\n")
        rest(sock)  # ends only if the service closes


def test_slow_connections_beyond_the_limit_keep_nobody_out(patient):
    with ExitStack() as stack:
        slow = [stack.enter_context(patient.connect()) for _ in range(40)]
        for number, sock in enumerate(slow):
            head = b"POST /v1/search HTTP/1.1\r\n" + HOST + b"content-length: 99\r\n\r\n{"
            sock.sendall(head if number % 2 else b"GET /healthz HTTP/1.1\r\nx-slow: ")
        assert all(patient.healthy() for _ in range(5))
        assert httpx.get(f"{patient.url}/v1/members/3/candidates").status_code == 200
        assert all(rest(sock) == b"" for sock in slow[:30]), "the oldest give way"


def test_where_all_connections_are_being_answered_one_more_is_refused(live, plane, listen):
    entered, leave = threading.Barrier(3), threading.Event()

    def held(release):
        entered.wait(30)
        assert leave.wait(30)
        return plane(release)

    settings = ServeConfig(max_connections=2)
    app = create_app(live, settings, lambda release: plane(release))

    @app.get("/held")
    def hold() -> None:
        entered.wait(30)
        leave.wait(30)

    with listen(app, settings) as url, ExitStack() as stack:
        server = Server(url)
        stack.callback(leave.set)
        busy = [stack.enter_context(server.connect()) for _ in range(2)]
        for sock in busy:
            sock.sendall(b"GET /held HTTP/1.1\r\n" + HOST + b"\r\n")
        entered.wait(30)
        assert problem(server.say(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"))["status"] == 503
        leave.set()
        assert all(sock.recv(65_536).startswith(b"HTTP/1.1 200 ") for sock in busy)
        assert server.healthy()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 40_000, 414),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n", 414),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 40_000, 431),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 9_000 + b"\r\n", 431),
        (b"GET http://evil.example/v1/release HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://127.0.0.1/v1/release HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT evil.example:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (
            b"POST /v1/search HTTP/1.1\r\n"
            + HOST
            + b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST /v1/search HTTP/1.1\r\n" + HOST + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}", 400),
        (b"POST /v1/search HTTP/1.1\r\n" + HOST + b"content-length: " + b"9" * 5_000 + b"\r\n\r\n{}", 400),
        (b"POST /v1/search HTTP/1.1\r\n" + HOST + b"content-length: -1\r\n\r\n{}", 400),
    ],
)
def test_what_is_too_large_or_no_request_is_refused_at_once(patient, sent, status):
    assert problem(patient.say(sent))["status"] == status
    assert patient.healthy()


def test_requests_in_a_row_are_answered_in_order_and_a_flood_of_them_is_refused(patient):
    one = b"GET /v1/members/%d/candidates?k=1 HTTP/1.1\r\n" + HOST + b"\r\n"
    last = one.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")
    answers = patient.say(b"".join(one % member for member in range(1, 9)) + last % 9)
    bodies = [part.split(b"\r\n\r\n", 1)[1] for part in answers.split(b"HTTP/1.1 200 OK")[1:]]
    alone = [httpx.get(f"{patient.url}/v1/members/{member}/candidates?k=1").content for member in range(1, 10)]
    assert bodies == alone
    assert b"HTTP/1.1 429 " in patient.say(one % 1 * 5_000)
    assert patient.healthy()


def test_a_body_behind_a_pipelined_request_is_read(patient):
    body = b'{"vector": [1,1,1,1,1,1], "k": 1}'
    post = b"POST /v1/search HTTP/1.1\r\n" + HOST + b"content-type: application/json\r\nconnection: close\r\n"
    with patient.connect() as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n" + post + b"content-length: %d\r\n\r\n" % len(body))
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200 ")
        sock.sendall(body)
        assert b"HTTP/1.1 200 " in rest(sock)


def test_a_client_that_reads_nothing_is_cut_off(live, plane, listen):
    """An answer larger than the buffers of the sockets, to a client that never reads it."""
    settings = ServeConfig(**SHORT)
    app = create_app(live, settings, lambda release: plane(release) | {"legend": ["x" * 12_000_000]})
    with listen(app, settings) as url:
        server = Server(url)
        with server.connect() as sock:
            sock.sendall(b"GET /v1/explorer/map HTTP/1.1\r\n" + HOST + b"\r\n")
            assert sock.recv(10).startswith(b"HTTP/1.1")
            threading.Event().wait(1.5)
            assert len(rest(sock)) < 12_000_000
        assert len(httpx.get(f"{url}/v1/explorer/map").content) > 12_000_000, "others get all of it"


def test_who_goes_away_leaves_no_trace_and_no_error(live, plane, listen):
    """In the middle of the headers, of the body, and of the answer, a hundred times."""
    settings = ServeConfig(max_connections=64)
    with listen(create_app(live, settings, plane), settings) as url:
        server = Server(url)
        whole = b"GET /v1/explorer/titles?q=title HTTP/1.1\r\n" + HOST + b"\r\n"
        post = b"POST /v1/search HTTP/1.1\r\n" + HOST + b"content-length: 30\r\n\r\n{"
        for turn in range(100):
            with server.connect() as sock:
                sock.sendall((whole, post, whole[:20])[turn % 3])
        assert server.healthy()
        figures = httpx.get(f"{url}/metrics").text
        assert not [line for line in figures.splitlines() if 'status="500"' in line]
