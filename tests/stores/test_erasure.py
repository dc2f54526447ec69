"""Erasing: no row, no id and no vector of the member in any file, and everybody else as before."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stores import erasure, publish
from stores.columns import dead_letter_schema
from stores.errors import CorruptError, NotFoundError
from stores.release import Release
from stores.suppression import suppressed
from stores.workspace import Workspace

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
        {**dict.fromkeys(range(9), 1), 4: 2}, {0: 1}, more={"dead_letter/encode.parquet": letters_of(letters)}
    )
    for release in (first, second):
        publish.publish(nights.workspace, release, config)
    second.add_event("canary", wrong=[f"member {nights.ids(4)}: found nothing"])
    return first, second


def letters_of(rows):
    return pa.Table.from_pylist(rows, schema=dead_letter_schema())


def every_file(nights):
    """Name and bytes of all that the workspace keeps, on local disk and on the object store, logs included."""
    places = [Path(nights.repository)]
    if nights.workspace.storage.is_local:
        places = [Path(nights.workspace.uri)]
    else:
        for path in nights.workspace.storage.files():
            yield path, nights.workspace.storage.read(path)
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


@pytest.mark.parametrize("step", ["first file", "manifest", "history", "online", "event"])
def test_an_interrupted_erasure_is_completed_by_the_next_command(named, config, look, monkeypatch, step):
    releases = publish_two(named, config)
    needles = needles_of(look, named, releases)
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
    listed = suppressed(nights.workspace.storage)
    assert listed.holds(4)
    assert listed.holds("4")
    assert not listed.holds(5)
    assert receipt.subject in json.loads(nights.workspace.storage.read("suppressed.json"))["hashes"]


def test_an_id_that_cannot_be_and_a_damaged_file_are_named(local_nights, config):
    with pytest.raises(NotFoundError, match="nothing is published"):
        erasure.erase(local_nights.workspace, "4", config)
    release = local_nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    with pytest.raises(NotFoundError, match="there can be no member"):
        erasure.erase(local_nights.workspace, "four", config)
    path = "members/part-00001.parquet"
    damaged = bytearray(release.storage.read(path))
    damaged[60] ^= 1
    release.storage.write(path, bytes(damaged))
    with pytest.raises(CorruptError, match=path):
        erasure.erase(local_nights.workspace, "4", config)
