"""Who may ask what: the token, foreign host names, and bodies that are too large."""

import socket

import httpx
import pytest

from retrieval.service import ServeConfig, create_app

TOKEN = "correct horse"


@pytest.fixture
def guarded(live, plane, listen):
    with (
        listen(create_app(live, ServeConfig(), plane, TOKEN)) as url,
        httpx.Client(base_url=url) as client,
    ):
        yield client


def test_with_a_token_every_answer_needs_it(guarded):
    for path in ("/v1/release", "/v1/members/1/candidates", "/v1/explorer/map", "/metrics", "/openapi.json"):
        assert guarded.get(path).status_code == 401
        assert guarded.get(path, headers={"Authorization": f"Bearer {TOKEN}x"}).status_code == 401
        assert guarded.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert guarded.get("/v1/release").headers["www-authenticate"] == "Bearer"


def test_probes_and_the_page_itself_need_no_token(guarded):
    assert guarded.get("/healthz").status_code == 200
    assert guarded.get("/readyz").status_code == 200
    assert guarded.get("/").status_code == 200
    assert guarded.get("/explorer/../v1/release").status_code in (401, 404)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "",
        "127.0.0.1:evil.example",
        "localhost:80.evil.example",
        "localhost:",
        "localhost:99999",
        "localhost:8080:8080",
        "localhost.",
        "localhost,evil.example",
        "localhost@evil.example",
        "user@localhost",
        "localhost/evil",
        "xlocalhost",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "::1",
        "[::1",
        "::1]",
        "[::1]evil.example",
        "[::1]:evil.example",
        "[::ffff:127.0.0.1]",
        "[::]",
        "[fe80::1%25lo]",
        "localhost x",
    ],
)
def test_a_foreign_name_that_points_here_is_refused(address, host):
    assert httpx.get(f"{address}/v1/release", headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:8080", "127.0.0.1:1", "[::1]:8080", "[::1]", "[0:0:0:0:0:0:0:1]"]
)
def test_loopback_by_any_name_is_answered(address, host):
    assert httpx.get(f"{address}/v1/release", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_request_names_its_host_once(live, plane, listen, token):
    """Two Host headers are read differently by a proxy and by us."""
    key = f"Authorization: Bearer {TOKEN}\r\n"
    with listen(create_app(live, ServeConfig(), plane, token)) as url:
        for hosts, version, status in (
            ("Host: localhost\r\n", "1.1", 200),
            ("Host: localhost\r\nHost: localhost\r\n", "1.1", 400),
            ("Host: evil.example\r\nHost: localhost\r\n", "1.1", 400),
            ("Host: localhost\r\nHost: evil.example\r\n", "1.1", 400),
            ("", "1.1", 400),
            ("", "1.0", 200 if token else 403),
        ):
            with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=30) as sock:
                sock.sendall(f"GET /v1/release HTTP/{version}\r\n{hosts}{key}Connection: close\r\n\r\n".encode())
                assert sock.recv(65_536).split()[1] == str(status).encode(), (hosts, version)


def test_a_token_that_is_given_twice_or_is_no_text_is_none(guarded):
    good, bad = ("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer x")
    for headers in ([good, bad], [bad, good], [good, good], [("Authorization", b"Bearer \xff\xfe")]):
        assert guarded.get("/v1/release", headers=headers).status_code == 401
    assert guarded.get("/v1/release", headers=[good]).status_code == 200


def test_a_body_that_is_too_large_is_refused_however_it_comes(address):
    large = b"[" + b"1," * 200_000 + b"1]"
    told = httpx.post(f"{address}/v1/search", content=large)
    assert told.status_code == 413
    assert "262144" in told.json()["expected"]
    in_parts = httpx.post(f"{address}/v1/search", content=iter([large[:100_000]] * 4))
    assert in_parts.status_code == 413
    small = httpx.post(
        f"{address}/v1/search",
        content=iter([b'{"vector": [1,1,1,', b"1,1,1]}"]),
        headers={"content-type": "application/json"},
    )
    assert small.status_code == 200


def test_the_page_may_load_and_send_nothing_elsewhere(address):
    policy = httpx.get(f"{address}/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("..%2Fapp.py", "%2e%2e/app.py", "nothing.js", "__init__.py"):
        assert httpx.get(f"{address}/explorer/{name}").status_code == 404
