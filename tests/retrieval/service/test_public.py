"""The service answers what brute force answers, and refuses with a document that says what to do."""

import httpx
import numpy as np
import pytest

from retrieval.service import ReleaseWatcher, ServeConfig, create_app
from stores.releases.workspace import Workspace

TITLES, DIM = 60, 6


@pytest.fixture
def client(address):
    with httpx.Client(base_url=address) as client:
        yield client


def vectors(release, kind):
    table = getattr(release, kind)().to_table()
    id_column = f"{kind[:-1]}_id"
    return dict(zip(table[id_column].to_pylist(), np.float32(table["embedding"].to_pylist()), strict=True))


def ranked(answer):
    return [(title["title_id"], title["score"]) for title in answer.json()["titles"]]


@pytest.mark.parametrize("country", [None, "GB", "us"])
@pytest.mark.parametrize("max_maturity", [None, 0, 12])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_candidates_are_the_best_that_may_be_shown(
    client, live, brute, service_catalogue, country, max_maturity, exclude_seen
):
    release = live.current.release
    titles, members = vectors(release, "titles"), vectors(release, "members")
    places, ages = service_catalogue["available_countries"], service_catalogue["maturity"]
    allowed = [
        (country is None or not places[i] or country.upper() in [place.upper() for place in places[i]])
        and (max_maturity is None or ages[i] is None or ages[i] <= max_maturity)
        for i in range(TITLES)
    ]
    asked = {"k": 50, "exclude_seen": exclude_seen, "country": country, "max_maturity": max_maturity}
    asked = {name: value for name, value in asked.items() if value is not None}
    for member in (0, 3, 14):
        answer = client.get(f"/v1/members/{member}/candidates", params=asked)
        gone = {10 * i for i in range(member % 5)} if exclude_seen else set()
        expected = brute(np.stack(list(titles.values())), members[member], 50, list(titles), allowed, gone)
        assert [title for title, _ in ranked(answer)] == [title for title, _ in expected]
        assert np.allclose([score for _, score in ranked(answer)], [score for _, score in expected], atol=1e-5)
        assert answer.json()["release_id"] == release.release_id


def test_a_published_vector_finds_the_same_titles_as_its_member(client):
    embedding = client.get("/v1/members/7/embedding").json()
    assert len(embedding["embedding"]) == DIM
    found = client.post("/v1/search", json={"vector": embedding["embedding"], "space_id": embedding["space_id"]})
    assert ranked(found) == ranked(client.get("/v1/members/7/candidates", params={"exclude_seen": False}))


def test_similar_titles_are_those_that_the_title_s_vector_finds_by_cosine(client, live):
    vector = vectors(live.current.release, "titles")[50].tolist()
    by_id = client.get("/v1/titles/50/similar", params={"k": 8})
    by_vector = client.post("/v1/search", json={"vector": vector, "metric": "cosine", "k": 8, "exclude": [50]})
    assert [title for title, _ in ranked(by_id)] == [title for title, _ in ranked(by_vector)]
    assert 50 not in [title for title, _ in ranked(by_id)]
    assert ranked(client.get("/v1/titles/title 5/similar")) == ranked(client.get("/v1/titles/50/similar"))


def test_ids_of_text_may_hold_slashes_and_signs(published, plane, listen):
    published.night(3, text=True)
    live = ReleaseWatcher(published.workspace)
    with listen(create_app(live, ServeConfig(), plane)) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/members/m0003/candidates").status_code == 200
        answer = client.get("/v1/members/a%2F..%2Fb%00%C3%A9/candidates")
        assert answer.status_code == 404
        assert "a/../b" in answer.json()["what"]


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/v1/members/999/candidates", 404, "no member 999"),
        ("/v1/members/x/candidates", 404, "cannot be an id"),
        ("/v1/members/1/candidates?k=0", 422, "greater than or equal to 1"),
        ("/v1/members/1/candidates?k=501", 422, "less than or equal to 500"),
        ("/v1/titles/title/similar", 409, "matches"),
        ("/v1/titles/nowhere/similar", 404, "no title"),
        ("/v1/nothing", 404, "Not Found"),
    ],
)
def test_what_cannot_be_answered_is_a_problem_document(client, path, status, word):
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert word in problem["what"]
    assert problem["status"] == status
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"vector": [1.0] * (DIM - 1)}, 422, "dimensions"),
        ({"vector": [1.0] * DIM, "space_id": "2"}, 409, "space 2"),
        ({"vector": [1.0] * DIM, "k": 501}, 422, "k is 501"),
        ({"vector": [1.0] * DIM, "exclude": ["x"]}, 422, "cannot be in this index"),
        ({"vector": [1e300] * DIM}, 422, "not finite"),
        ({"vector": [1.0] * DIM, "surprise": 1}, 422, "surprise"),
        ({"vector": []}, 422, "vector"),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(client, body, status, word):
    answer = client.post("/v1/search", json=body)
    assert answer.status_code == status
    assert word in answer.json()["what"]


def test_numbers_that_are_none_in_json_are_refused(client):
    body = f'{{"vector": [{",".join(["NaN"] * DIM)}]}}'
    answer = client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert "not finite" in answer.json()["what"] or "finite number" in answer.json()["what"]


def test_without_a_release_the_service_says_so(tmp_path, plane, listen):
    live = ReleaseWatcher(Workspace.open(str(tmp_path / "empty")))
    with listen(create_app(live, ServeConfig(), plane)) as url, httpx.Client(base_url=url) as client:
        for path in ("/healthz", "/v1/release", "/v1/members/1/candidates", "/v1/explorer/map"):
            answer = client.get(path)
            assert answer.status_code == 503
            assert "samespace nightly" in answer.json()["fix"]
        assert client.get("/metrics").status_code == 200
        assert client.get("/").status_code == 200


def test_the_release_says_what_it_is(client, live):
    facts = client.get("/v1/release").json()
    assert (facts["titles"], facts["members"], facts["dim"]) == (TITLES, 40, DIM)
    assert facts["release_id"] == live.current.release_id
    assert facts["previous_release"] < facts["release_id"]
    assert facts["candidates_recall"]["value"] == 1.0


def test_a_fault_of_our_own_shows_no_trace(client, live, monkeypatch):
    def fail(*_):
        raise RuntimeError("secret place /somewhere")

    monkeypatch.setattr(type(live.current), "candidates", fail)
    answer = client.get("/v1/members/1/candidates")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["fix"]


def test_the_metrics_never_name_a_member(client):
    client.get("/v1/members/77777/candidates")
    text = client.get("/metrics").text
    assert "77777" not in text
    assert "samespace_release_info{" in text
