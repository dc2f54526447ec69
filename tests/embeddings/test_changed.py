"""Histories set apart are those that changed; a copy that does not fit is not used."""

from typing import Any

import pyarrow as pa
import pytest

from embeddings.encode import job
from embeddings.encode.config import EncodeConfig
from embeddings.encode.worker import ShardWorker
from embeddings.histories.changed_histories import (
    IDENTITY_COLUMNS,
    incremental_base,
    read_changed_histories,
    write_changed_histories,
)
from stores.releases.release import Release, StageReport

SHARD = "part-00000.parquet"
BEFORE = {member: [member % 10] for member in range(30)}
TONIGHT = {member: titles for member, titles in BEFORE.items() if member != 3} | {6: [1, 2], 33: [4]}
CHANGED = [6, 33]


@pytest.fixture
def live(nights: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A sealed release with the histories BEFORE."""
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    release, config = nights.stage(BEFORE), EncodeConfig(encoder="own_models:Titles", model=str(tmp_path))
    (tmp_path / "seen").write_text("")
    worker = ShardWorker(config, release, None)
    for task in job.shard_tasks(config, release):
        worker.encode(task)
    sealed: Release = nights.seal(release, StageReport(name="encode"))
    return sealed


def apart(nights: Any, live: Release) -> tuple[Release, pa.Table]:
    """Tonight with a shard's changed histories set apart, and who they are of."""
    release = nights.stage(TONIGHT, live)
    histories = release.storage.read_table(f"histories/{SHARD}")
    write_changed_histories(release, live, SHARD, histories)
    return release, histories.filter(pa.array([member in CHANGED for member in histories["member_id"].to_pylist()]))


def test_what_changed_or_is_new_is_set_apart(nights: Any, live: Release) -> None:
    release, expected = apart(nights, live)
    assert release.storage.read_table(f"work/changed/{SHARD}").equals(expected)
    release.storage.delete(f"histories/{SHARD}")
    found = read_changed_histories(release, SHARD, expected.select(IDENTITY_COLUMNS))
    assert found.cast(expected.schema).equals(expected)


def test_a_copy_of_other_histories_is_not_used(nights: Any, live: Release) -> None:
    release, expected = apart(nights, live)
    release.write_table(f"work/changed/{SHARD}", expected.slice(1))
    found = read_changed_histories(release, SHARD, expected.select(IDENTITY_COLUMNS))
    assert found.cast(expected.schema).equals(expected)


def test_nothing_is_set_apart_where_most_changed(nights: Any, live: Release) -> None:
    release = nights.stage({member: [*titles, 1] for member, titles in BEFORE.items()}, live)
    write_changed_histories(release, live, SHARD, release.storage.read_table(f"histories/{SHARD}"))
    assert not release.storage.exists(f"work/changed/{SHARD}")


def test_only_a_night_with_the_live_model_carries(nights: Any, live: Release) -> None:
    assert incremental_base(nights.stage(TONIGHT)) is None
    assert incremental_base(nights.stage(TONIGHT, live, model_id="another")) is None
    found = incremental_base(nights.stage(TONIGHT, live))
    assert found is not None
    assert found.release_id == live.release_id
