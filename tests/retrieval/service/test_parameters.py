"""What is asked is answered or refused by name: parameters, fields, values, ids of any text, bytes that are no text."""

import json
import socket
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from retrieval.config import RetrievalConfig
from retrieval.job import run
from retrieval.service import ReleaseWatcher, ServeConfig, create_app
from retrieval.service.request_parameters import refuse_unknown
from stores.errors import UsageError
from stores.releases.release import Release
from stores.releases.workspace import Workspace

HOSTILE = [
    "",
    " ",
    "..",
    "../../etc/passwd",
    "a/b",
    "/",
    "//",
    "a\nb",
    "\n",
    "x\r\ny",
    "a\tb",
    "a\x00b",
    "\x1b[2Jz",
    "\u202egnp",
    "zero\u200bwidth",
    "\u0639\u0631\u0628\u064a",
    "%2F",
    "100%",
    "a?b#c",
    "a&b=c",
    "candidates",
    "x/candidates",
    "<script>alert(1)</script>",
    "'; DROP TABLE members; --",
    "=1+1",
    "\N{PILE OF POO}",
    "e\u0301",
    "\u00e9",
    "long" * 1_000,
]


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address) as client:
        yield client


V1 = [
    "/v1/members/1/candidates",
    "/v1/titles/10/similar",
    "/v1/members/1/embedding",
    "/v1/release",
    "/v1/explorer/titles",
    "/v1/explorer/titles/10/compare",
    "/v1/explorer/members",
    "/v1/explorer/members/1/history",
    "/v1/explorer/map",
]


@pytest.mark.parametrize("path", V1)
def test_a_parameter_that_a_route_does_not_know_is_refused_by_name(client, path):
    for name in ("cuntry", "K", "", "k%20", "country%00", "%E2%80%AE"):
        answer = client.get(f"{path}?{name}=1")
        assert answer.status_code == 422, (path, name)
        assert "there is no parameter" in answer.json()["what"]
    assert client.get(path).status_code == 200


def test_the_nearest_known_parameter_is_named(client):
    problem = client.get("/v1/members/1/candidates?cuntry=GB").json()
    assert "'cuntry'" in problem["what"]
    assert problem["expected"] == "one of k, exclude_seen, country, max_maturity"
    assert "'country'" in problem["fix"]


def test_a_parameter_that_is_given_twice_is_refused(client):
    for query in ("k=5&k=6", "k=5&k=5", "country=GB&k=5&country=US"):
        answer = client.get(f"/v1/members/1/candidates?{query}")
        assert answer.status_code == 422
        assert "more than once" in answer.json()["what"]


def test_a_field_that_a_body_does_not_know_is_refused_by_name(client):
    answer = client.post("/v1/search", json={"vector": [1] * 6, "contry": "GB"})
    assert answer.status_code == 422
    problem = answer.json()
    assert "'contry'" in problem["what"]
    assert "'country'" in problem["fix"]
    assert "max_maturity" in problem["expected"]
    assert client.post("/v1/search?k=5", json={"vector": [1] * 6}).status_code == 422


@pytest.mark.parametrize("country", ["XX", "", "G B", "GBR", " GB", "\u202eBG", "x" * 64])
def test_a_country_that_no_title_lists_names_those_that_there_are(client, country):
    asked = [
        client.get("/v1/members/1/candidates", params={"country": country}),
        client.get("/v1/titles/10/similar", params={"country": country}),
        client.post("/v1/search", json={"vector": [1] * 6, "country": country}),
    ]
    for answer in asked:
        assert answer.status_code == 422
        assert answer.json()["expected"] == "one of GB, US"


@pytest.mark.parametrize("query", ["k=0", "k=501", "k=1e1", "k=", "k=5.5", "exclude_seen=maybe", "max_maturity=-1"])
def test_a_value_out_of_range_is_refused(client, query):
    answer = client.get(f"/v1/members/1/candidates?{query}")
    assert answer.status_code == 422
    assert query.split("=")[0] in answer.json()["what"]


def test_countries_come_and_go_without_growth(client, live):
    """Many combinations of filters, most of them never asked again: the ones kept are few."""
    for maturity in range(200):
        assert client.get(f"/v1/titles/10/similar?country=GB&max_maturity={maturity}").status_code == 200
    assert len(live.current._masks) <= 64


@pytest.mark.parametrize(
    "body",
    [
        b'{"vector": [1,1,1,1,1,1], "country": "\\ud800"}',
        b'{"vector": [1,1,1,1,1,1], "exclude": ["\\udfff"]}',
        b'{"vector": [1,1,1,1,1,1], "space_id": "\\ud800x"}',
        b'{"vector": [1,1,1,1,1,1], "metric": "\\ud800"}',
        b'{"\\ud800": 1, "vector": [1,1,1,1,1,1]}',
        b'{"vector": "\\ud800"}',
        b'{"vector": [1,1,1,1,1,1], "country": "\xff"}',
        b'\xff\xfe{"vector": [1,1,1,1,1,1]}',
        b'{"vector": [1,1,1,1,1,NaN]}',
        b'{"vector": [1,1,1,1,1,Infinity]}',
        b'{"vector": [1,1,1,1,1,1e400]}',
        b'{"vector": [1,1,1,1,1,1e39]}',
        b'{"vector": [1,1,1,1,1,true], "k": true}',
        b'{"vector": [1,1,1,1,1,1], "k": 1e999}',
        b'{"vector": [1,1,1,1,1,1], "k": 99999999999999999999999}',
        b'{"vector": [1,1,1,1,1,1], "max_maturity": -1}',
        b'{"vector": [1,1,1,1,1,1], "exclude": 5}',
        b'{"vector": [1,1,1,1,1,1], "exclude": [[1]]}',
        b'{"vector": [1,1,1,1,1,1], "exclude": [1.5]}',
        b'{"vector": [1,1,1,1,1,1], "exclude": [99999999999999999999999]}',
        b'{"vector": [1,1,1,1,1,1], "exclude": ["a"]}',
        b'{"vector": [[1,1,1,1,1,1]]}',
        b'{"vector": []}',
        b'{"vector": [1]}',
        b'{"vector": {"re": 1}}',
        b"[" * 100_000,
        b'{"a":' * 40_000,
        b"null",
        b"",
        b"5",
        b'"x"',
    ],
)
def test_a_body_that_cannot_be_used_is_a_problem_and_no_crash(client, body):
    answer = client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 409, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["what"]


@pytest.mark.parametrize(
    "target",
    [
        "/v1/members/%FF/candidates",
        "/v1/members/%ED%A0%80/candidates",
        "/v1/members/%C0%AF/candidates",
        "/v1/members/1/candidates?country=%FF",
        "/v1/members/1/candidates?%FF=GB",
        "/v1/explorer/titles?q=%ED%B0%80",
        "/%FF",
    ],
)
def test_bytes_that_are_no_text_are_refused_and_never_read_as_another_id(client, target):
    answer = client.get(target)
    assert answer.status_code == 400
    assert "UTF-8" in answer.json()["what"]


def test_a_target_that_is_not_escaped_is_refused_with_the_cure(address):
    with socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])), timeout=30) as sock:
        sock.sendall("GET /v1/titles/\u00e9/similar HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        found = b"".join(iter(lambda: sock.recv(65_536), b""))
    assert found.split()[1] == b"400"
    assert "%XX" in json.loads(found.split(b"\r\n\r\n", 1)[1])["expected"]


def test_every_id_is_reachable(make_release, plane, listen):
    """Through the path of each route, as a client escapes it."""
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(len(HOSTILE), 6)).astype(np.float32)
    release = make_release(vectors, vectors, text=True, ids=HOSTILE, name=[None] * len(HOSTILE))
    run(RetrievalConfig(), release)
    sealed = Release(release.workspace_uri, release.release_id)
    sealed.seal([], [], {})
    workspace = Workspace.open(release.workspace_uri)
    pointer = {"release_id": sealed.release_id, "space_id": "1", "promoted_at": "2026-07-21T02:00:00Z"}
    workspace.storage.write("current.json", json.dumps(pointer).encode())
    live = ReleaseWatcher(workspace)
    with listen(create_app(live, ServeConfig(), plane)) as url:
        for row, name in enumerate(HOSTILE):
            found = raw(url, f"/v1/members/{quote(name, safe='')}/embedding")
            assert found["member_id"] == name
            assert np.allclose(found["embedding"], vectors[row])
            similar = raw(url, f"/v1/titles/{quote(name, safe='')}/similar?k=30")
            assert {title["title_id"] for title in similar["titles"]} == {*HOSTILE} - {name}
            history = raw(url, f"/v1/explorer/members/{quote(name, safe='')}/history")
            assert history["member_id"] == name


def raw(url: str, target: str) -> dict:
    """A GET whose target is sent as it is; clients in between would resolve `..`."""
    with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=30) as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 200 "), (target[:100], answer[:400])
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


@pytest.mark.parametrize(
    "path", ["/v1/members//candidates", "/v1/members/1/candidates/", "/v1/release%0A", "/v1//release"]
)
def test_a_path_that_is_nearly_one_of_ours_is_none(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/v1/members/1_0/candidates", "/v1/members/%D9%A1/candidates", "/v1/members/+1/candidates"]
)
def test_a_number_has_one_spelling(client, path):
    """`int` of Python reads more than digits: member 10 must not answer for another text."""
    assert client.get(path).status_code == 404


def test_nothing_known_is_nothing_to_suggest():
    with pytest.raises(UsageError, match="no parameter"):
        refuse_unknown(["x"], [], "parameter")
    refuse_unknown([], [], "parameter")
