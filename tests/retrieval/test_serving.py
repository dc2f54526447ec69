import json
import threading

import numpy as np
import pytest

from retrieval import RetrievalConfig, exact
from retrieval.client import RetrievalClient
from retrieval.job import run
from stores.errors import MismatchError, NotFoundError
from stores.releases.release import Release
from stores.releases.workspace import Workspace


def point(release):
    pointer = {"release_id": release.release_id, "space_id": release.space_id, "promoted_at": "2026-07-21T02:00:00Z"}
    Workspace.open(release.workspace_uri).storage.write("current.json", json.dumps(pointer).encode())


@pytest.fixture
def nights(make_release):
    """Two sealed releases of one workspace, with other titles and members, and what their vectors are."""
    made = []
    for seed, count in ((1, 60), (2, 90)):
        rng = np.random.default_rng(seed)
        vectors = [rng.normal(size=(size, 6)).astype(np.float32) for size in (count, 20)]
        release = make_release(*vectors)
        run(RetrievalConfig(), release)
        release.seal([], [], {})
        made.append((Release(release.workspace_uri, release.release_id), vectors))
    return made


def test_answers_are_those_of_the_oracle(nights):
    release, (titles, members) = nights[0]
    point(release)
    with RetrievalClient.open(release.workspace_uri) as server:
        for member in range(20):
            gone = [np.arange(member % 5)]
            rows, scores = exact.search(titles, members[[member]], 5, "ip", None, gone)
            answer = server.candidates(member, 5)
            assert answer.title_ids == (10 * rows[0]).tolist()
            assert np.array_equal(np.float32(answer.scores), scores[0])
        rows, _ = exact.search(titles, titles[[7]], 5, "cosine", None, [np.array([7])])
        assert server.similar(70, 5).title_ids == (10 * rows[0]).tolist()
        with pytest.raises(NotFoundError):
            server.candidates(999)


def test_a_swap_under_load_loses_no_query_and_mixes_no_releases(nights):
    (first, _), (second, _) = nights
    point(first)
    server = RetrievalClient.open(first.workspace_uri)
    expected = {}
    for release, (titles, members) in nights:
        gone = [np.arange(member % 5) for member in range(20)]
        rows, scores = exact.search(titles, members, 4, "ip", None, gone)
        expected[release.release_id] = (10 * rows).tolist(), scores.tolist()
    faults, answered, stop = [], [], threading.Event()

    def ask(number):
        rng = np.random.default_rng(number)
        while not stop.is_set():
            member = int(rng.integers(20))
            try:
                answer = server.candidates(member, 4)
                ids, scores = expected[answer.release_id]
                if (answer.title_ids, answer.scores) != (ids[member], scores[member]):
                    faults.append(answer)
                answered.append(answer.release_id)
            except Exception as error:
                faults.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(12):
        point(second if turn % 2 == 0 else first)
        assert server.refresh()
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults
    assert server.live.swaps == 12
    assert answered


def test_a_release_whose_index_is_of_another_space_is_refused_and_the_old_one_serves_on(nights):
    (first, _), (second, _) = nights
    point(first)
    server = RetrievalClient.open(first.workspace_uri)
    card = json.loads(second.storage.read("index/index.json"))
    card["origin"]["space_id"] = "7"
    second.storage.write("index/index.json", json.dumps(card).encode())
    point(second)
    with pytest.raises(MismatchError, match=r"space 7, asked for was space 1"):
        server.refresh()
    assert server.candidates(3).release_id == first.release_id


def test_nothing_live_is_told(tmp_path):
    with pytest.raises(NotFoundError, match="nothing is live"):
        RetrievalClient.open(str(tmp_path / "w")).candidates(1)
