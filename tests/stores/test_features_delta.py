"""Differences between two tables of vectors."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stores.errors import CorruptError, MismatchError
from stores.feast import release_diff
from stores.feast.feature_views import MEMBERS
from stores.feast.release_diff import compare, vectors
from stores.files.filesystem import sha256
from stores.releases.change_log import write_changes
from stores.releases.release import Release


def table(rows: dict, dim: int = 2, kind: pa.DataType | None = None) -> pa.Table:
    ids = pa.array(list(rows), kind or pa.int64())
    flat = pa.array(np.array(list(rows.values()), dtype=np.float32).reshape(-1), pa.float32())
    return pa.table({"member_id": ids, "embedding": pa.FixedSizeListArray.from_arrays(flat, dim)})


ROWS = st.dictionaries(st.integers(0, 9), st.tuples(*[st.sampled_from([0.0, -0.0, 1.0, float("nan")])] * 2), min_size=1)


@settings(deadline=None)
@given(ROWS, ROWS)
def test_applying_the_difference_gives_the_new_release(old, new):
    part = compare(table(old), table(new), MEMBERS)
    gone = set(part.departed.to_pylist())
    held = {i: np.float32(row).tobytes() for i, row in old.items() if i not in gone}
    written = zip(part.upserts.column("member_id").to_pylist(), vectors(part.upserts), strict=True)
    changes = {i: row.tobytes() for i, row in written}
    wanted = {i: np.float32(row).tobytes() for i, row in new.items()}
    assert {**held, **changes} == wanted
    assert all(held.get(i) != row for i, row in changes.items())


def test_another_width_changes_every_row():
    part = compare(table({1: [0, 0]}), table({1: [0, 0, 0]}, dim=3), MEMBERS)
    assert part.upserts.num_rows == 1


SEEDS = {i: float(i) for i in range(30)}
FEW = {i: seed + 0.5 * (i % 9 == 0) for i, seed in SEEDS.items() if i != 7} | {40: 40.0}


def every(parts) -> list:
    return sorted(one for part in parts for one in part.to_pylist())


@pytest.mark.parametrize("to", [FEW, {i: seed + 1 for i, seed in SEEDS.items()}, {1: 1.0}, SEEDS])
def test_what_a_release_tells_of_itself_is_the_difference(local_nights, to):
    old = local_nights.seal(SEEDS, {1: 1.0})
    new = local_nights.seal(to, {1: 1.0}, carried=old)
    whole = [release.members().to_table().sort_by("member_id").combine_chunks() for release in (old, new)]
    for before, after, tables in ((old, new, whole), (new, old, whole[::-1])):
        parts, by_value = list(release_diff.iter_diffs(MEMBERS, before, after)), compare(*tables, MEMBERS)
        names = ["member_id", "embedding", "release_id", "encoded_at"]
        written = pa.concat_tables([by_value.upserts.select(names)[:0], *(part.upserts for part in parts)])
        assert written.sort_by("member_id").equals(by_value.upserts.select(names))
        assert every(part.departed for part in parts) == every([by_value.departed])
        assert every(part.arrived for part in parts) == every([by_value.arrived])


def test_of_what_it_carried_no_vector_is_read(local_nights, monkeypatch):
    old = local_nights.seal(SEEDS, {1: 1.0})
    new = local_nights.seal(FEW, {1: 1.0}, carried=old)
    asked, read = [], Release.read_table
    monkeypatch.setattr(Release, "read_table", lambda one, *rest: asked.append((one, rest[0])) or read(one, *rest))
    assert sum(part.rows for part in release_diff.iter_diffs(MEMBERS, old, new)) == 6
    assert {one for one, _ in asked} == {new}
    assert {path for _, path in asked} == {"changes/part-00000.parquet", "changes/part-00001.parquet"}


def test_between_other_releases_values_are_compared(local_nights):
    """Rows made again with the same values are no change there, nor where values are asked for."""
    first = local_nights.seal(SEEDS, {1: 1.0})
    old = local_nights.seal(SEEDS, {1: 1.0}, carried=first)
    local_nights.changed.pop(("m", 9, SEEDS[9]))
    new = local_nights.seal(SEEDS, {1: 1.0}, carried=old)
    found = [
        sum(part.rows for part in release_diff.iter_diffs(MEMBERS, *pair))
        for pair in ((old, new), (first, new), (new, old))
    ]
    assert (found, list(release_diff.iter_diffs(MEMBERS, old, new, by_value=True))) == ([1, 0, 0], [])


@pytest.mark.parametrize("stale", ["of another shard", "since another release"])
def test_what_does_not_fit_is_not_used(local_nights, stale):
    """A night that was killed and went on may leave changes of another attempt, or since another release."""
    old = local_nights.seal(SEEDS, {1: 1.0})
    other = local_nights.seal(SEEDS | {3: 7.0}, {1: 1.0})
    new = local_nights.seal(FEW, {1: 1.0}, carried=old)
    path, shard = "changes/part-00000.parquet", "members/part-00000.parquet"
    entry = next(one for one in (other if stale == "of another shard" else new).manifest.files if one.path == shard)
    since = old if stale == "of another shard" else other
    release = Release(new.workspace_uri, new.release_id)
    nobody = new.read_table(shard).slice(0, 0)
    write_changes(release, entry, since, old.read_table(shard)["member_id"], new.read_table(shard)["member_id"], nobody)
    written = release.storage.read(path)
    files = [
        one if one.path != path else one.model_copy(update={"sha256": sha256(written)}) for one in new.manifest.files
    ]
    release.storage.write("manifest.json", new.manifest.model_copy(update={"files": files}).to_bytes())
    again = Release(new.workspace_uri, new.release_id)
    assert sum(part.rows for part in release_diff.iter_diffs(MEMBERS, old, again)) == 6


@pytest.mark.parametrize("folder", ["members", "changes"])
def test_damage_to_the_release_that_tells_is_not_published(local_nights, folder):
    old = local_nights.seal(SEEDS, {1: 1.0})
    new = local_nights.seal(FEW, {1: 1.0}, carried=old)
    path = f"{folder}/part-00001.parquet"
    data = bytearray(new.storage.read(path))
    data[len(data) // 2] ^= 1
    new.storage.write(path, bytes(data))
    with pytest.raises(CorruptError, match=path):
        list(release_diff.iter_diffs(MEMBERS, old, new))


def test_damage_to_the_release_it_carried_from_makes_nothing_unknown(local_nights):
    old = local_nights.seal(SEEDS, {1: 1.0})
    new = local_nights.seal(FEW, {1: 1.0}, carried=old)
    old.storage.write("members/part-00001.parquet", b"damage")
    assert sum(part.rows for part in release_diff.iter_diffs(MEMBERS, old, new)) == 6


@pytest.mark.parametrize(("room", "found"), [(2**20, 1), (0, 2)])
def test_a_difference_that_fits_is_found_once(monkeypatch, room, found):
    calls = []

    def deltas(view, old, new):
        calls.append(new)
        yield compare(None, table({1: [0, 0]}), view)
        yield compare(table({1: [0, 0]}), table({1: [1, 0]}), view)

    monkeypatch.setattr(release_diff, "iter_diffs", deltas)
    differences, new = release_diff.DiffCache(room), Release("ws", "20260101T000000Z-abcd")
    first, second = (list(differences.between(MEMBERS, None, new)) for _ in range(2))
    assert [part.upserts for part in first] == [part.upserts for part in second]
    assert len(calls) == found


def test_an_id_twice_and_other_ids_are_refused():
    twice = pa.concat_tables([table({1: [0, 0]}), table({1: [1, 1]})])
    with pytest.raises(MismatchError, match="repeat a member_id"):
        compare(None, twice, MEMBERS)
    with pytest.raises(MismatchError, match="int64 and string"):
        compare(table({1: [0, 0]}), table({"a": [0, 0]}, kind=pa.string()), MEMBERS)
