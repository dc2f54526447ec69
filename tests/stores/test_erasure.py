"""Erasing: no row, no id and no vector of the member in any file, and everybody else as before."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stores.errors import CorruptError, NotFoundError
from stores.files.filesystem import Storage
from stores.publishing import erasure, publish
from stores.publishing.erasure import id_redactor
from stores.publishing.suppression_list import read_suppression_list
from stores.releases.release import Release
from stores.releases.workspace import Workspace
from stores.schema import dead_letter_schema

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning"),
    # Feast's Dask store, which reads a workspace on an object store, fills missing times in a way pandas will change.
    pytest.mark.filterwarnings("ignore:Downcasting object dtype arrays:FutureWarning"),
]
NOBODY = "member-four-of-nine"


@pytest.fixture
def named(nights):
    """Two published nights with string ids and a dead letter about one of them."""
    nights.ids = lambda i: NOBODY if i == 4 else f"é/{i}"
    return nights


def publish_two(nights, config):
    first = nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    letters = [
        {"source": "encoder", "row": 1, "column": "member_id", "value": nights.ids(i), "reason": "odd"} for i in (3, 4)
    ]
    second = nights.seal(
        {**dict.fromkeys(range(9), 1), 4: 2},
        {0: 1},
        more={"dead_letter/encode.parquet": letters_of(letters)},
        carried=first,
    )
    for release in (first, second):
        publish.publish(nights.workspace, release, config)
    second.add_event("readback", wrong=[f"member {nights.ids(4)}: found nothing"])
    return first, second


def letters_of(rows):
    return pa.Table.from_pylist(rows, schema=dead_letter_schema())


def every_file(nights):
    """Name and bytes of all that the workspace keeps, on local disk and on the object store, logs included."""
    places = [Path(nights.repository)]
    if nights.workspace.storage.is_local:
        places = [Path(nights.workspace.uri)]
    else:
        for info in nights.workspace.storage.infos():
            yield info.path, nights.workspace.storage.read(info.path)
    for place in places:
        for path in sorted(place.rglob("*")):
            if path.is_file():
                yield str(path), path.read_bytes()


def traces(nights, needles):
    """Files that hold any of some bytes, as they are or inside Parquet's pages."""
    found = []
    for path, data in every_file(nights):
        texts = [data]
        if path.endswith(".parquet"):
            table = pq.read_table(pa.BufferReader(data))
            texts += [memoryview(buffer) for column in table.columns for chunk in column.chunks
                      for buffer in chunk.buffers() if buffer is not None]  # fmt: skip
            texts.append(str(pq.read_metadata(pa.BufferReader(data)).to_dict()).encode())
        if any(needle in bytes(text) for text in texts for needle in needles):
            found.append(path)
    return found


def needles_of(look, nights, releases):
    vectors = [look.published(release, "members")[nights.ids(4)] for release in releases]
    return [nights.ids(4).encode(), *(vector.tobytes() for vector in vectors)]


def test_no_file_keeps_the_id_or_the_vector(named, config, look):
    releases = publish_two(named, config)
    needles = needles_of(look, named, releases)
    before = traces(named, needles)
    assert any("history" in path for path in before)
    assert any("dead_letter" in path for path in before)
    assert any("changes" in path for path in before)
    assert any("online.db" in path for path in before)
    receipt = erasure.erase(named.workspace, NOBODY, config, why="a request")
    assert traces(named, needles) == []
    assert receipt.releases == {release.release_id: 2 for release in releases}
    assert receipt.history_files == 2
    for release in named.workspace.releases():
        assert release.verify() == []
        assert release.manifest.revision == 2
        assert release.events()[-1]["subject"] == receipt.subject


def test_everybody_else_is_served_as_before(named, config, look):
    first, second = publish_two(named, config)
    others = [named.ids(i) for i in range(9) if i != 4]
    expected = {i: look.published(second, "members")[i] for i in others}
    erasure.erase(named.workspace, NOBODY, config)
    everyone = [named.ids(i) for i in range(9)]
    assert look.same_bits(look.online(named, "member", everyone), expected)
    frame = pd.DataFrame({"member_id": everyone, "event_timestamp": [datetime.now(UTC)] * 9})
    found = look.store(named).get_historical_features(frame, ["member_embedding:release_id"]).to_df()
    there = dict(zip(found["member_id"], found["release_id"], strict=True))
    assert {i: value for i, value in there.items() if isinstance(value, str)} == dict.fromkeys(others, first.release_id)
    publish.rollback(named.workspace, config)
    assert NOBODY not in look.online(named, "member", everyone)
    third = named.seal({i: 3 for i in range(9) if i != 4}, {0: 1})
    publish.publish(named.workspace, third, config)
    assert look.same_bits(look.online(named, "member", everyone), look.published(third, "members"))


def leave(nights, release):
    """Files of the member that only a killed process, or a reader of the workspace, leaves; their number."""
    rows = release.storage.read("members/part-00001.parquet")
    beside = {"work/native/members/part-00001.parquet": rows, "members/.tmp-00ff-part-00001.parquet": rows}
    for path, data in (beside | {"report.html": NOBODY.encode(), "data_docs/vectors.html": NOBODY.encode()}).items():
        release.storage.write(path, data)
    name = release.release_id
    nights.workspace.storage.write(f"backfill/abc1/releases/{name}/members/part-00001.parquet", rows)
    nights.workspace.storage.write("feast/history/member_embedding.writing", rows)
    nights.workspace.storage.write("journal/.tmp-00ff-erase.json", NOBODY.encode())
    return 7


def test_nothing_that_a_killed_process_left_keeps_them(named, config, look):
    first, second = publish_two(named, config)
    needles = needles_of(look, named, [first, second])
    before = len(traces(named, needles))
    assert before + leave(named, first) == len(traces(named, needles))
    erasure.erase(named.workspace, NOBODY, config)
    assert traces(named, needles) == []
    kept = {path.split("/")[0] for path in first.storage.files()}
    assert kept == {"events", "manifest.json", "members", "plan.json", "titles"}


def test_the_history_is_never_half_written_where_feast_reads_it(local_nights, config, monkeypatch):
    local_nights.ids = lambda i: NOBODY if i == 4 else f"é/{i}"
    publish_two(local_nights, config)
    written, write = [], Storage.write

    def note(self, path, data):
        written.append(path)
        write(self, path, data)

    monkeypatch.setattr(Storage, "write", note)
    assert erasure.erase(local_nights.workspace, NOBODY, config).history_files == 2
    assert [path for path in written if path.startswith("feast/history/")] == []


@pytest.mark.parametrize("step", ["first file", "manifest", "history", "online", "event"])
def test_an_interrupted_erasure_is_completed_by_the_next_command(named, config, look, monkeypatch, step):
    releases = publish_two(named, config)
    needles = needles_of(look, named, releases)
    leave(named, releases[0])
    with monkeypatch.context() as broken:
        break_at(broken, step)
        with pytest.raises(ZeroDivisionError):
            erasure.erase(named.workspace, NOBODY, config)
    named.workspace = Workspace.open(named.workspace.uri)
    publish.recover(named.workspace, config)
    assert traces(named, needles) == []
    assert all(release.verify() == [] for release in named.workspace.releases())
    assert all([e["event"] for e in r.events()].count("erased") == 1 for r in named.workspace.releases())


def break_at(patch, step):
    def stop(*_, **__):
        return 1 // 0

    if step in ("first file", "manifest"):
        write, name = type(Workspace.open("x").storage).write, "manifest.json" if step == "manifest" else "part-"

        def fail(self, path, data):
            write(self, path, data)
            if name in path:
                stop()

        patch.setattr(type(Workspace.open("x").storage), "write", fail)
    else:
        places = {
            "history": (erasure, "_erase_history"),
            "online": (erasure, "_erase_online"),
            "event": (erasure.Release, "add_event"),
        }
        patch.setattr(*places[step], stop)


def test_a_whole_number_leaves_the_others_and_their_statistics(nights, config, look):
    first = nights.seal(dict.fromkeys(range(9), 1), {8: 2})
    publish.publish(nights.workspace, first, config)
    vector = look.published(first, "members")[8].tobytes()
    erasure.erase(nights.workspace, "8", config)
    assert traces(nights, [vector]) == []
    assert list(look.online(nights, "member", list(range(9)))) == list(range(8))
    assert list(look.online(nights, "title", [8])) == [8]
    for entry in Release(nights.workspace.uri, first.release_id).manifest.files:
        if entry.path.startswith("members"):
            data = nights.workspace.storage.read(f"releases/{first.release_id}/{entry.path}")
            assert pq.read_metadata(pa.BufferReader(data)).row_group(0).column(0).statistics.max < 8


def test_the_list_knows_whom_and_tells_nobody(nights, config):
    publish.publish(nights.workspace, nights.seal(dict.fromkeys(range(9), 1), {0: 1}), config)
    receipt = erasure.erase(nights.workspace, "4", config)
    listed = read_suppression_list(nights.workspace.storage)
    assert listed.contains(4)
    assert listed.contains("4")
    assert not listed.contains(5)
    assert receipt.subject in json.loads(nights.workspace.storage.read("suppressed.json"))["hashes"]


def test_an_id_that_cannot_be_and_a_damaged_file_are_named(local_nights, config):
    with pytest.raises(NotFoundError, match="nothing is published"):
        erasure.erase(local_nights.workspace, "4", config)
    release = local_nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    for nobody in ("four", "9999999999999999999", "-9223372036854775809", "1_0", ""):
        with pytest.raises(NotFoundError, match="there can be no member"):
            erasure.erase(local_nights.workspace, nobody, config)
    assert read_suppression_list(local_nights.workspace.storage) is None
    publish.publish(local_nights.workspace, release, config)  # nothing is left to complete
    path = "members/part-00001.parquet"
    damaged = bytearray(release.storage.read(path))
    damaged[60] ^= 1
    release.storage.write(path, bytes(damaged))
    with pytest.raises(CorruptError, match=path):
        erasure.erase(local_nights.workspace, "4", config)


@pytest.mark.parametrize("published", [int, str])
def test_a_held_release_with_ids_of_another_type_is_rewritten_too(local_nights, config, look, published):
    nights, other = local_nights, str if published is int else int
    nights.ids = published
    release = nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    publish.publish(nights.workspace, release, config)
    nights.ids = other
    held = nights.seal(dict.fromkeys(range(9), 1), {0: 1}, held=True)
    receipt = erasure.erase(nights.workspace, "4", config)
    assert receipt.releases == {release.release_id: 2, held.release_id: 2}
    for sealed, kind in ((release, published), (held, other)):
        assert set(look.published(sealed, "members")) == {kind(i) for i in range(9) if i != 4}
    assert set(look.online(nights, "member", [published(i) for i in range(9)])) == set(
        look.published(release, "members")
    )


@pytest.mark.parametrize("published", [int, str])
def test_ids_that_one_type_alone_can_have_are_erased_from_what_has_it(local_nights, config, look, published):
    nights, other = local_nights, str if published is int else int
    nights.ids = published
    publish.publish(nights.workspace, nights.seal({4: 1, 7: 1}, {0: 1}), config)
    nights.ids = {int: int, str: lambda i: "007" if i == 7 else str(i)}[other]
    nights.seal({4: 1, 7: 1}, {0: 1}, held=True)
    erasure.erase(nights.workspace, "007", config)
    assert set(look.online(nights, "member", [published(4), published(7)])) == {published(4), published(7)}


@pytest.mark.parametrize("member", ["1", "0000", "same"])
def test_what_programs_read_of_a_release_is_not_rewritten(local_nights, config, member):
    """Ids that are also a space, the end of a release's id, part of a word."""
    nights = local_nights
    nights.ids = lambda i: member if i == 4 else f"m{i}"
    for number, space_id in enumerate("12"):
        release = nights.seal(dict.fromkeys(range(9), number), {0: 1}, space_id=space_id)
        publish.publish(nights.workspace, release, config)
    before = [event for release in nights.made for event in release.events()]
    stages = [release.manifest.stages for release in nights.made]
    erasure.erase(nights.workspace, member, config)
    after = [event for release in nights.workspace.releases() for event in release.events()]
    assert [event for event in after if event["event"] != "erased"] == before
    assert [release.manifest.stages for release in nights.workspace.releases()] == stages


@pytest.mark.parametrize(
    ("member", "text", "left"),
    [
        (4, "members 4: nothing is served", "members (erased): nothing is served"),
        (4, "member 4, title 7; for example 4, 44, 4", "member (erased), title 7; for example (erased), 44, (erased)"),
        (4, "recall 4.5 of 4 titles, 44", "recall 4.5 of 4 titles, 44"),
        ("same", "the space is the same_space: same", "the space is the same_space: (erased)"),
        ("ab", "ab of member ab", "ab of member (erased)"),
        ("é/17", "é/17, é/171", "(erased), é/171"),
    ],
)
def test_ids_leave_texts_for_people_as_whole_words(member, text, left):
    found = {"outcome": text, "checks": [{"expectation": text, "examples": [text, str(member)]}], "wrong": [text]}
    wanted = {"outcome": text, "checks": [{"expectation": text, "examples": [left, "(erased)"]}], "wrong": [left]}
    assert id_redactor(member)(found) == wanted
