"""Who may ask what: the token, foreign host names, and bodies that are too large."""

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
    assert guarded.get("/").status_code == 200
    assert guarded.get("/explorer/../v1/release").status_code in (401, 404)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_foreign_name_that_points_here_is_refused(address, host):
    assert httpx.get(f"{address}/v1/release", headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "[::1]"])
def test_loopback_by_any_name_is_answered(address, host):
    assert httpx.get(f"{address}/v1/release", headers={"Host": host}).status_code == 200


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
