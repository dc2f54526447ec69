"""Point in time: what plain Feast says was live at a moment, compared with a brute-force as-of join."""

import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from stores.feast.checksums import find_damaged, forget_checksum
from stores.feast.offline_store import write_history
from stores.publishing import publish
from stores.releases.workspace import Workspace

# Feast 0.67 reads results through ibis, which calls a name that DuckDB 1.4 renamed.
pytestmark = [
    pytest.mark.filterwarnings(r"ignore:fetch_arrow_table\(\) is deprecated:DeprecationWarning"),
    # Feast's Dask store, which reads a workspace on an object store, fills missing times in a way pandas will change.
    pytest.mark.filterwarnings("ignore:Downcasting object dtype arrays:FutureWarning"),
]

MEMBERS = [*range(10), 99]


def live_since(workspace: Workspace) -> datetime:
    return datetime.fromisoformat(workspace.pointer()["promoted_at"])


def asked(look, nights, at: list[datetime], feature: str = "embedding") -> dict:
    """What Feast answers for every member at every moment."""
    pairs = [(member, moment) for moment in at for member in MEMBERS]
    frame = pd.DataFrame(pairs, columns=["member_id", "event_timestamp"])
    found = look.store(nights).get_historical_features(frame, [f"member_embedding:{feature}"]).to_df()
    assert len(found) == len(pairs)
    moments = [moment.to_pydatetime() for moment in found.event_timestamp]
    return {(m, t): v for m, t, v in zip(found.member_id, moments, found[feature], strict=True)}


@pytest.fixture
def three_nights(nights, config):
    return make_three(nights, config)


@pytest.fixture
def three_local_nights(local_nights, config):
    return make_three(local_nights, config)


def make_three(nights, config):
    """Three releases and a rollback, with a departure, an arrival and a return; who was live since when."""
    releases = [
        nights.seal(dict.fromkeys(range(9), 1), {0: 1}),
        nights.seal({**dict.fromkeys(range(8), 1), 3: 2}, {0: 1}),
        nights.seal({**dict.fromkeys(range(7), 1), 4: 3, 8: 3, 9: 3}, {0: 1}),
    ]
    moves = []
    for release in releases:
        publish.publish(nights.workspace, release, config)
        moves.append((live_since(nights.workspace), release))
    publish.rollback(nights.workspace, config)
    return [*moves, (live_since(nights.workspace), releases[1])]


def test_history_equals_a_brute_force_join(nights, look, three_nights):
    times = [since for since, _ in three_nights]
    tick = timedelta(microseconds=1)
    moments = [times[0] - tick, *times, *(time + tick for time in times), times[-1] + timedelta(days=900)]
    vectors = {release.release_id: look.published(release, "members") for _, release in three_nights}
    answers = asked(look, nights, moments)
    for (member, moment), answer in answers.items():
        live = [release for since, release in three_nights if since <= moment]
        expected = vectors[live[-1].release_id].get(member) if live else None
        if expected is None:
            assert answer is None or np.all(pd.isna(answer))
        else:
            assert np.asarray(answer, np.float32).tobytes() == expected.tobytes()


def test_release_id_is_the_one_in_which_the_vector_changed(nights, look, three_nights):
    first, second, third = (release.release_id for _, release in three_nights[:3])
    at = three_nights[2][0]
    found = asked(look, nights, [at], "release_id")
    assert (found[0, at], found[4, at], found[9, at]) == (first, third, third)
    assert pd.isna(found[7, at])
    at = three_nights[3][0]
    found = asked(look, nights, [at], "release_id")
    assert (found[0, at], found[3, at], found[4, at]) == (first, second, first)


def test_a_moved_workspace_answers_after_the_next_writing_command(
    local_nights, look, config, three_local_nights, tmp_path
):
    at = [since for since, _ in three_local_nights]
    before = asked(look, local_nights, at, "release_id")
    shutil.move(local_nights.workspace.uri, tmp_path / "elsewhere")
    local_nights.workspace = Workspace.open(str(tmp_path / "elsewhere"))
    local_nights.repository = str(tmp_path / "elsewhere" / "feast")
    publish.recover(local_nights.workspace, config)
    after = asked(look, local_nights, at, "release_id")
    assert all(after[key] == value or pd.isna(value) for key, value in before.items())


def test_plain_feast_applies_the_repository_and_answers_from_any_folder(local_nights, look, three_local_nights):
    """A process that cannot import samespace; moved workspaces are repaired by `feast apply` alone."""
    place = Path(local_nights.workspace.uri)
    moved = place.with_name("copied")
    shutil.move(place, moved)
    env = {**os.environ, "PYTHONPATH": ""}
    feast = [sys.executable, "-P", "-W", "ignore", "-m", "feast.cli.cli", "-c", str(moved / "feast"), "apply"]
    applied = subprocess.run(feast, cwd="/", env=env, capture_output=True, text=True, timeout=120, check=False)
    assert applied.returncode == 0, applied.stderr
    local_nights.workspace, local_nights.repository = Workspace.open(str(moved)), str(moved / "feast")
    answers = asked(look, local_nights, [datetime.now(UTC)], "release_id")
    assert sum(isinstance(value, str) for value in answers.values()) == 8


def test_a_file_in_the_making_leaves_no_descriptor_and_no_copy(nights, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    storage, before = nights.workspace.storage, sorted(tmp_path.iterdir())
    table = pa.table({"x": [1]})
    for number in range(3):
        write_history(storage, f"h/v/{number}.parquet", table.schema, iter([table]), lambda: None)
    opened = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert [place for place in opened if place.startswith(str(tmp_path))] == []
    assert find_damaged(storage) == []
    assert [info.path for info in storage.infos("h")] == [f"h/v/{number}.parquet" for number in range(3)]
    assert [path.name for path in tmp_path.iterdir() if path not in before and path.name != "workspace"] == []


def test_a_file_that_was_meant_to_go_is_not_missed(nights):
    storage, table = nights.workspace.storage, pa.table({"x": [1]})
    write_history(storage, "h/v/0.parquet", table.schema, iter([table]), lambda: None)
    storage.delete("h/v/0.parquet")
    assert find_damaged(storage) == ["h/v/0.parquet is missing"]
    forget_checksum(storage, "h/v/0.parquet")
    assert find_damaged(storage) == []


def test_the_other_offline_store_of_feast_needs_no_place(local_nights, look, tmp_path):
    """Dask's paths are relative, so a moved workspace answers as it is (slowly, for large histories)."""
    config = publish.PublishConfig(offline_store={"type": "dask"})
    publish.publish(local_nights.workspace, local_nights.seal(dict.fromkeys(MEMBERS, 1), {0: 1}), config)
    shutil.move(local_nights.workspace.uri, tmp_path / "elsewhere")
    local_nights.workspace = Workspace.open(str(tmp_path / "elsewhere"))
    local_nights.repository = str(tmp_path / "elsewhere" / "feast")
    answers = asked(look, local_nights, [datetime.now(UTC)], "release_id")
    assert len(set(answers.values())) == 1
    publish.recover(local_nights.workspace, config)
    for path in (tmp_path / "elsewhere").rglob("*"):
        if path.name == "registry.db":  # Feast notes in it where the tables of SQLite lie
            assert f"{tmp_path}/elsewhere/".encode() in path.read_bytes()
            assert f"{tmp_path}/workspace/".encode() not in path.read_bytes()
        else:
            assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path
