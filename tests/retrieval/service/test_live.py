"""A release takes another's place while requests run: none fails, and each answer is of one release."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np

from retrieval import lookup
from retrieval.service import LoadedRelease, ReleaseWatcher
from retrieval.service.loaded_release import TitleFilter
from stores.releases.workspace import Workspace


def answers(releases):
    """What each release answers each of twenty members, from the command line's own look-up."""
    return {
        (release.release_id, member): [title["title_id"] for title in lookup.candidates(release, member, 10)]
        for release in releases
        for member in range(20)
    }


def test_a_thousand_requests_while_releases_are_swapped(published, live, address):
    releases = published.workspace.releases()
    expected = answers(releases)
    swapping = threading.Event()

    def swap():
        for turn in range(400):
            if swapping.wait(0.03):
                return
            published.point(releases[turn % 2])

    def ask(client, number):
        member = number % 20
        answer = client.get(f"/v1/members/{member}/candidates", params={"k": 10})
        body = answer.json()
        return answer.status_code, (body["release_id"], member), [title["title_id"] for title in body["titles"]]

    mover = threading.Thread(target=swap)
    mover.start()
    with httpx.Client(base_url=address) as client, ThreadPoolExecutor(16) as pool:
        done = list(pool.map(lambda number: ask(client, number), range(1_000)))
    swapping.set()
    mover.join()
    assert {status for status, _, _ in done} == {200}
    assert all(found == expected[key] for _, key, found in done)
    assert {key[0] for _, key, _ in done} == {release.release_id for release in releases}
    assert live.swaps >= 2


def test_a_release_that_cannot_be_opened_leaves_the_old_one_serving(published, live, address):
    held = live.current.release_id
    broken = published.night(9)
    (broken.storage.local("index/candidates.faiss")).write_bytes(b"not an index")
    for _ in range(200):
        if live.failures:
            break
        threading.Event().wait(0.02)
    assert live.failures
    assert httpx.get(f"{address}/v1/release").json()["release_id"] == held
    assert "samespace_release_swap_failures_total" in httpx.get(f"{address}/metrics").text


def test_what_is_open_goes_on_when_its_files_are_gone(published, live, address):
    before = httpx.get(f"{address}/v1/members/3/candidates").json()
    shutil.rmtree(live.current.release.storage.local())
    assert httpx.get(f"{address}/v1/members/3/candidates").json() == before


def test_an_erasure_opens_the_release_anew(published, live):
    first = live.current
    assert not live.refresh()
    again = first.release.manifest.model_copy(update={"revision": 2})
    first.release.storage.write("manifest.json", again.to_bytes())
    assert live.refresh()
    assert live.current is not first


def test_the_service_and_the_command_line_agree(published, live):
    release = published.workspace.current()
    for member in range(20):
        rows = live.current.members.row(member)
        found = live.current.candidates(rows, 10, True, TitleFilter())
        assert [live.current.ids[row] for row, _ in found] == [
            title["title_id"] for title in lookup.candidates(release, member, 10)
        ]


def test_the_releases_before_and_now_are_compared(published, live):
    before = live.previous_catalogue(live.current)
    assert before.release_id == published.workspace.releases()[0].release_id
    assert live.previous_catalogue(live.current) is before
    assert live.previous_catalogue(before_of(published)) is None


def before_of(published):
    return LoadedRelease.load(published.workspace.releases()[0])


def test_members_of_a_title_are_those_whose_history_has_it(live):
    opened = live.current
    histories = opened.release.histories().to_table().to_pylist()
    for row in range(6):
        have = {history["member_id"] for history in histories if opened.ids[row] in history["title_id"]}
        assert {opened.members.ids.values[member] for member in opened.members.of_title(row)} == have
    assert np.diff(opened.members.offsets).sum() == sum(len(history["title_id"]) for history in histories)


def test_an_empty_workspace_gives_no_release(tmp_path):
    live = ReleaseWatcher(Workspace.open(str(tmp_path)))
    assert not live.refresh()
    assert live.current is None
