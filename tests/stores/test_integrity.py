"""Damage is found and named; what earlier versions wrote stays readable."""

import json
import random
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.health_checks import check_environment, verify_files
from stores.errors import CorruptError
from stores.feast.repository import FeatureRepository
from stores.publishing import publish
from stores.releases.release import FORMAT_VERSION, Manifest, Release

GOLDEN = Path(__file__).parent / "golden"


def flip(storage, path, seed):
    data = bytearray(storage.read(path))
    at = random.Random(seed).randrange(len(data) * 8)
    data[at // 8] ^= 1 << at % 8
    storage.write(path, bytes(data))


def test_a_flipped_bit_in_any_file_is_named_by_verify_and_by_who_publishes(nights, config):
    release = nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    for seed, entry in enumerate(release.manifest.files * 4):
        before = release.storage.read(entry.path)
        flip(release.storage, entry.path, seed)
        again = Release(nights.workspace.uri, release.release_id)
        assert [fault.split()[0] for fault in again.verify()] == [entry.path]
        with pytest.raises(CorruptError, match=entry.path):
            again.read_bytes(entry.path)
        release.storage.write(entry.path, before)
    damaged = release.manifest.files[1].path
    flip(release.storage, damaged, 1)
    with pytest.raises(CorruptError, match=damaged):
        publish.publish(nights.workspace, Release(nights.workspace.uri, release.release_id), config)
    assert nights.workspace.pointer() is None


def test_a_flipped_bit_in_the_manifest_is_named(local_nights):
    release = local_nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    for seed in range(40):
        before = release.storage.read("manifest.json")
        flip(release.storage, "manifest.json", seed)
        with pytest.raises(CorruptError, match="manifest"):
            Release(local_nights.workspace.uri, release.release_id).verify()
        release.storage.write("manifest.json", before)


def test_a_flipped_bit_in_anything_else_that_was_published_is_named_by_the_doctor(nights, config):
    """Pointer, journal, plan, events, the Feast repository and its history: everything but the online store."""
    workspace = nights.workspace
    publish.publish(workspace, nights.seal(dict.fromkeys(range(9), 1), {0: 1}), config)

    def faults():
        found = [*check_environment(Config(), workspace), *verify_files(workspace)]
        return " ".join(one["says"] for one in found if one["state"] == "bad" and one["what"] != "disk")

    assert faults() == ""
    paths = [path for path in workspace.storage.files() if "manifest" not in path and "online.db" not in path]
    paths = [path for path in paths if workspace.storage.size(path)]
    kinds = (
        "current.json",
        "live.json",
        "plan.json",
        "events/",
        "views.json",
        "registry.db",
        "history/",
        "written.json",
    )
    assert all(any(kind in path for path in paths) for kind in kinds)
    for seed, path in enumerate(paths):
        before = workspace.storage.read(path)
        flip(workspace.storage, path, seed)
        assert path.rsplit("/", 1)[-1] in faults(), path
        workspace.storage.write(path, before)


def test_a_flipped_bit_in_the_pages_of_a_file_is_never_read_as_another_value(nights):
    """Whoever reads the Parquet without its manifest, as a data set, meets the pages' own checksums."""
    release = nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    path = "members/part-00001.parquet"
    expected = release.members().to_table()
    data = release.storage.read(path)
    place = data.index(expected["embedding"].combine_chunks().flatten().to_numpy()[24:26].tobytes())
    damaged = bytearray(data)
    damaged[place] ^= 4
    release.storage.write(path, bytes(damaged))
    with pytest.raises(OSError, match="CRC"):
        release.members().to_table()
    with pytest.raises(CorruptError, match=path):
        release.storage.read_table(path)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("manifest-*.json")), ids=lambda path: path.stem)
def test_manifests_of_every_version_stay_readable(path, nights):
    written = path.read_bytes()
    release = Release(nights.workspace.uri, json.loads(written)["release_id"])
    release.storage.write("manifest.json", written)
    release.storage.write("index/a.bin", b"abc")
    found = release.manifest
    assert found.files[0].path == "index/a.bin"
    assert found.plan.release_id == release.release_id
    assert release.verify() == []
    assert release.stage_report("encode").rows == 2


def test_there_is_a_golden_manifest_of_this_version():
    versions = {json.loads(path.read_bytes())["format_version"] for path in GOLDEN.glob("manifest-*.json")}
    assert versions == set(range(1, FORMAT_VERSION + 1))
    newest = json.loads((GOLDEN / "manifest-1-previous-spaces.json").read_bytes())
    assert set(newest) == set(Manifest.model_fields), "a new field needs a new golden manifest"


def test_a_repository_from_before_optional_views_goes_on(local_nights, config, look):
    first = local_nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    publish.publish(local_nights.workspace, first, config)
    golden = (GOLDEN / "views-1.json").read_bytes()
    local_nights.workspace.storage.write("feast/views.json", golden)
    old = FeatureRepository(local_nights.workspace.storage, config).described()
    assert set(old["views"]) == {"member_embedding", "title_embedding", "member_embedding_s2", "title_embedding_s2"}
    second = local_nights.seal({**dict.fromkeys(range(9), 1), 3: 2}, {0: 1})
    report = publish.publish(local_nights.workspace, second, config)
    assert report.metrics["online_members"] == 1
    assert look.same_bits(look.online(local_nights, "member", list(range(9))), look.published(second, "members"))
