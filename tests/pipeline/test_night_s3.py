"""Whole nights with lake and workspace on an S3 API server, by the command line: nothing of them is on local disk."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.releases.workspace import Workspace

pytestmark = pytest.mark.slow
Run = Callable[..., dict[str, Any]]


def test_two_nights_on_an_object_store(s3_bucket: str, tmp_path: Path, alone: Run, here: Run) -> None:
    root = f"{s3_bucket}/{uuid.uuid4().hex}"
    lake, workspace = f"{root}/lake", f"{root}/ws"
    settings = ("--set", f"publish.repository={tmp_path / 'repository'}", "--set", "features.semantic_ids=true")
    settings += ("--workspace", workspace)
    simulate(lake, SimulationConfig(members=120, titles=60, days=6, seed=3))
    first = alone("nightly", "--lake", lake, *settings, cwd=tmp_path)
    second = alone("nightly", "--lake", lake, *settings, cwd=tmp_path)
    assert second["space_id"] == first["space_id"] == "1"
    opened = Workspace.open(workspace)
    release = opened.current()
    assert release.release_id == second["release_id"]
    titles = release.titles().to_table()["title_id"].to_pylist()
    assert here("similar", str(titles[0]), "-k", "3", *settings, cwd=tmp_path)["titles"]
    members = release.members().to_table()
    gone, kept = members["member_id"][0].as_py(), members["member_id"].to_pylist()[1:]
    assert here("candidates", str(kept[0]), "-k", "3", *settings, cwd=tmp_path)["titles"]
    served_as_published(tmp_path, release)
    assert here("rollback", *settings, cwd=tmp_path)["current"] == first["release_id"]
    assert here("promote", second["release_id"], *settings, cwd=tmp_path)["current"] == second["release_id"]
    receipt = here("erase", str(gone), *settings, cwd=tmp_path)
    assert set(receipt["releases"]) == {first["release_id"], second["release_id"]}
    assert all(one.storage.exists("report.html") for one in opened.releases())
    assert here("doctor", "--verify", *settings, cwd=tmp_path)["healthy"]
    third = alone("nightly", "--lake", lake, *settings, cwd=tmp_path)
    assert third["stages"]["histories"]["metrics"]["refused"]["erased member"] > 0
    table = opened.current().members().to_table()
    assert set(table["member_id"].to_pylist()) == set(kept)
    served_as_published(tmp_path, opened.current(), absent=[gone])
    assert not (tmp_path / "ws").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"repository"}


def served_as_published(place: Path, release: Any, absent: list[int] | None = None) -> None:
    """Plain Feast, online and as of now, gives what the release's Parquet holds."""
    from feast import FeatureStore
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()  # it remembers listings, and erasing writes files of the history anew
    store = FeatureStore(repo_path=str(place / "repository"))
    table = release.members().to_table().sort_by("member_id")
    ids = [*table["member_id"].to_pylist(), *(absent or [])]
    expected = pc.list_flatten(table["embedding"]).to_numpy().reshape(table.num_rows, -1)
    rows = [{"member_id": one} for one in ids]
    online = store.get_online_features(["member_embedding:embedding"], rows).to_dict()["embedding"]
    np.testing.assert_array_equal(np.array(online[: table.num_rows], np.float32), expected)
    assert online[table.num_rows :] == [None] * len(absent or [])
    asked = pd.DataFrame({"member_id": ids, "event_timestamp": [datetime.now(UTC)] * len(ids)})
    found = store.get_historical_features(asked, ["member_embedding:embedding"]).to_df().sort_values("member_id")
    there = found[found["member_id"].isin(table["member_id"].to_pylist())]
    np.testing.assert_array_equal(np.stack(there["embedding"].to_numpy()).astype(np.float32), expected)
