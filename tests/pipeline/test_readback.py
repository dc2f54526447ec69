"""A release that consumers cannot read as it was published is taken back by itself."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from feast import FeatureStore

import retrieval.job
from pipeline.config import Config
from pipeline.nightly import verify_readback
from stores.errors import GateError
from stores.publishing import publish
from stores.releases.release import Plan, Release
from stores.releases.workspace import Workspace
from stores.schema import (
    EMBEDDING,
    ENCODED_AT,
    RELEASE_ID,
    TIMESTAMP_TYPE,
    TITLE_ID,
    member_vector_schema,
    title_vector_schema,
)

NIGHT, DIM = datetime(2026, 7, 1, 2, tzinfo=UTC), 6


def vector_table(schema: pa.Schema, count: int, rng: np.random.Generator, release_id: str) -> pa.Table:
    flat = rng.normal(size=count * DIM).astype(np.float32)
    made = {
        schema.names[0]: pa.array(range(count), pa.int64()),
        EMBEDDING: pa.FixedSizeListArray.from_arrays(pa.array(flat), DIM),
        RELEASE_ID: pa.array([release_id] * count),
        ENCODED_AT: pa.array([NIGHT] * count, TIMESTAMP_TYPE),
    }
    return pa.table([made.get(field.name, pa.nulls(count, field.type)) for field in schema], schema=schema)


@pytest.fixture
def two_live(tmp_path: Path) -> tuple[Workspace, list[Release], Config]:
    """A workspace with two published releases, the second one live."""
    config = Config(workspace=str(tmp_path / "workspace"))
    workspace = Workspace.open(config.workspace)
    releases = []
    for number in range(2):
        release_id = f"{NIGHT + timedelta(days=number):%Y%m%dT%H%M%SZ}-{number:04x}"
        facts = {"release_id": release_id, "plan_hash": "0", "lake": "", "model_id": "m", "space_id": "1"}
        plan = Plan(
            **facts, as_of=NIGHT, created_at=NIGHT, reference_release=None, previous_release=None, shards=1, config={}
        )
        release = Release(workspace.uri, release_id)
        release.storage.write("plan.json", plan.model_dump_json().encode())
        rng = np.random.default_rng(number)
        members, titles = (
            member_vector_schema(pa.int64(), DIM),
            title_vector_schema(pa.int64(), DIM),
        )
        release.write_table("members/part-00000.parquet", vector_table(members, 30, rng, release_id))
        release.write_table("titles/part-00000.parquet", vector_table(titles, 20, rng, release_id))
        retrieval.job.run(config.index, release)
        release.seal([], [], {})
        publish.publish(workspace, release, config.publish)
        releases.append(release)
    return workspace, releases, config


def served(workspace: Workspace, member: int) -> np.ndarray:
    store = FeatureStore(repo_path=f"{workspace.uri}/feast")
    rows = store.get_online_features(["member_embedding:embedding"], [{"member_id": member}]).to_dict()
    return np.asarray(rows["embedding"][0], np.float32)


def test_a_good_release_stays_live(two_live: tuple[Workspace, list[Release], Config]) -> None:
    workspace, (_, second), config = two_live
    report = verify_readback(workspace, second, config)
    assert report.metrics["passed"]
    assert workspace.current().release_id == second.release_id
    assert second.events()[-1]["event"] == "readback"


def test_a_store_that_serves_something_else_is_taken_back_whole(
    two_live: tuple[Workspace, list[Release], Config],
) -> None:
    workspace, (first, second), config = two_live
    table = first.members().to_table()
    with sqlite3.connect(Path(workspace.uri, "feast", "online.db")) as online:
        (name,) = next(online.execute("SELECT name FROM sqlite_master WHERE name LIKE '%member_embedding'"))
        keys = [row[0] for row in online.execute(f"SELECT DISTINCT entity_key FROM {name}")]
        online.execute(f"DELETE FROM {name} WHERE entity_key IN (?, ?)", keys[:2])
    online.close()
    with pytest.raises(GateError) as raised:
        verify_readback(workspace, second, config)
    error = raised.value
    assert error.exit_code == 4
    assert "nothing is served" in error.what
    assert error.where.endswith("report.html")
    assert first.release_id in error.fix
    assert workspace.current().release_id == first.release_id
    assert first.events()[-2]["why"] == "the readback failed"
    for member in (0, 17, 29):
        np.testing.assert_array_equal(served(workspace, member), table["embedding"][member].values.to_numpy())
    assert "Taken back" in second.storage.read("report.html").decode()


def test_an_index_under_wrong_ids_is_taken_back_and_prometheus_is_told(
    two_live: tuple[Workspace, list[Release], Config], tmp_path: Path
) -> None:
    workspace, (first, second), config = two_live
    place = tmp_path / "samespace.prom"
    config = config.model_copy(update={"night": config.night.model_copy(update={"metrics_file": str(place)})})
    wrong = pa.table({TITLE_ID: pa.array(np.roll(np.arange(20), 1))})
    second.write_table("index/ids.parquet", wrong)
    with pytest.raises(GateError, match="FAISS scores"):
        verify_readback(workspace, second, config)
    assert workspace.current().release_id == first.release_id
    told = place.read_text()
    assert "samespace_night_live 0.0" in told
    assert 'samespace_checks_failed{gate="readback",level="hold"} 1.0' in told
    assert second.release_id in told


def test_a_first_release_has_nowhere_to_go_back_to_and_fails_all_the_same(
    two_live: tuple[Workspace, list[Release], Config],
) -> None:
    workspace, (first, second), config = two_live
    workspace.remove(first)
    second.write_table("index/ids.parquet", pa.table({TITLE_ID: pa.array(np.roll(np.arange(20), 1))}))
    nowhere = config.night.model_copy(update={"metrics_file": str(Path(workspace.uri, "no", "x.prom"))})
    with pytest.raises(GateError) as raised:
        verify_readback(workspace, second, config.model_copy(update={"night": nowhere}))
    assert "stays live" in raised.value.fix
    assert "the metrics file cannot be written" in raised.value.fix
