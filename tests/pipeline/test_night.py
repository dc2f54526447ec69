"""Whole nights on a small simulated lake, through every real component, by the command line."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.backfill import Backfill
from pipeline.config import Config
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.publishing.suppression_list import suppress
from stores.releases.workspace import Workspace

Run = Callable[..., dict[str, Any]]
Vectors = Callable[[Any, str], tuple[list[Any], np.ndarray]]
Two = tuple[Path, dict[str, Any], dict[str, Any]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_nights(lake: Path, tmp_path_factory: pytest.TempPathFactory, samespace: Run) -> Two:
    """A workspace after two nights of two trainings."""
    place = tmp_path_factory.mktemp("two")
    first = samespace("nightly", "--lake", str(lake), cwd=place)
    samespace("train", "--lake", str(lake), "--seed", "1", cwd=place)
    return place, first, samespace("nightly", "--lake", str(lake), cwd=place)


def test_two_trainings_share_one_space(two_nights: Two) -> None:
    place, first, second = two_nights
    assert first["model_id"] != second["model_id"]
    assert first["space_id"] == second["space_id"] == "1"
    assert second["stages"]["align"]["metrics"]["outcome"] == "same_space"
    assert Workspace.open(str(place / "ws")).current().release_id == second["release_id"]


def test_every_member_and_title_is_published(lake: Path, two_nights: Two, vectors: Vectors) -> None:
    release = Workspace.open(str(two_nights[0] / "ws")).current()
    titles = ds.dataset(lake / "titles").to_table(columns=["title_id"])["title_id"].to_pylist()
    assert vectors(release, "title")[0] == sorted(titles)
    seen = ds.dataset(lake / "interactions", partitioning="hive").to_table(columns=["member_id"])["member_id"]
    assert vectors(release, "member")[0] == sorted(pc.unique(seen).to_pylist())
    assert release.verify() == []


def test_plain_feast_serves_what_the_release_holds(two_nights: Two, vectors: Vectors) -> None:
    import pandas as pd
    from feast import FeatureStore

    place = two_nights[0]
    release = Workspace.open(str(place / "ws")).current()
    store = FeatureStore(repo_path=str(place / "ws" / "feast"))
    for kind in ("member", "title"):
        ids, expected = vectors(release, kind)
        feature = f"{kind}_embedding:embedding"
        online = store.get_online_features(features=[feature], entity_rows=[{f"{kind}_id": one} for one in ids])
        np.testing.assert_array_equal(np.array(online.to_dict()["embedding"], np.float32), expected)
        asked = pd.DataFrame({f"{kind}_id": ids, "event_timestamp": [datetime.now(UTC)] * len(ids)})
        found = store.get_historical_features(entity_df=asked, features=[feature]).to_df().sort_values(f"{kind}_id")
        np.testing.assert_array_equal(np.stack(found["embedding"].to_numpy()).astype(np.float32), expected)


def test_plain_faiss_answers_as_the_commands_do(two_nights: Two, samespace: Run, vectors: Vectors) -> None:
    place = two_nights[0]
    release = Workspace.open(str(place / "ws")).current()
    index = place / "ws" / "releases" / release.release_id / "index"
    ids = pq.read_table(index / "ids.parquet")["title_id"].to_pylist()
    members, queries = vectors(release, "member")
    scores, rows = faiss.read_index(str(index / "candidates.faiss")).search(queries[:1], 5)
    told = samespace("candidates", str(members[0]), "-k", "5", "--no-exclude-seen", cwd=place)["titles"]
    assert [row["title_id"] for row in told] == [ids[row] for row in rows[0]]
    np.testing.assert_allclose([row["score"] for row in told], scores[0], rtol=1e-5)

    titles, points = vectors(release, "title")
    unit = points[:1] / np.linalg.norm(points[:1])
    scores, rows = faiss.read_index(str(index / "similar.faiss")).search(unit, 6)
    told = samespace("similar", str(titles[0]), "-k", "5", cwd=place)["titles"]
    assert [row["title_id"] for row in told] == [ids[row] for row in rows[0] if ids[row] != titles[0]]


def test_alignment_keeps_the_scores(two_nights: Two) -> None:
    metrics = two_nights[2]["stages"]["align"]["metrics"]
    assert metrics["score_error"] <= 1e-5


def test_rollback_restores_the_earlier_release_everywhere(
    two_nights: Two, tmp_path: Path, samespace: Run, vectors: Vectors
) -> None:
    from feast import FeatureStore

    place, first, second = two_nights
    shutil.copytree(place / "ws", tmp_path / "ws")  # a workspace may be copied
    assert samespace("rollback", cwd=tmp_path)["current"] == first["release_id"]
    release = Workspace.open(str(tmp_path / "ws")).current()
    assert release.release_id == first["release_id"]
    ids, expected = vectors(release, "member")
    store = FeatureStore(repo_path=str(tmp_path / "ws" / "feast"))
    rows = [{"member_id": one} for one in ids]
    online = store.get_online_features(features=["member_embedding:embedding"], entity_rows=rows).to_dict()
    np.testing.assert_array_equal(np.array(online["embedding"], np.float32), expected)
    assert samespace("promote", second["release_id"], cwd=tmp_path)["current"] == second["release_id"]


def test_broken_rows_go_to_the_dead_letter_and_the_night_goes_on(place: Path, samespace: Run) -> None:
    simulate(str(place / "lake"), SimulationConfig(members=120, titles=80, days=20, seed=4, broken=0.03))
    night = samespace("nightly", "--lake", "lake", cwd=place)
    refused = night["stages"]["histories"]["metrics"]["refused"]
    letters = Workspace.open(str(place / "ws")).release(night["release_id"]).storage.dataset("dead_letter").to_table()
    assert set(refused) == set(letters["reason"].to_pylist())
    assert all(source for source in letters["source"].to_pylist())
    assert pc.min(letters["row"]).as_py() >= 0


def test_a_mostly_broken_lake_exits_3_and_publishes_nothing(tmp_path: Path, samespace: Run) -> None:
    simulate(str(tmp_path / "lake"), SimulationConfig(members=80, titles=60, days=10, seed=5, broken=0.7))
    error = samespace("nightly", "--lake", "lake", cwd=tmp_path, expect=3)["error"]
    assert "max_bad_fraction" in json.dumps(error)
    assert not (tmp_path / "ws" / "current.json").exists()


def test_a_held_night_exits_4_and_leaves_the_live_release(lake: Path, two_nights: Two, samespace: Run) -> None:
    place, _, second = two_nights
    held = samespace(
        "nightly", "--lake", str(lake), "--set", "gate.vectors.min_effective_rank=1000", cwd=place, expect=4
    )
    assert held["status"] == "held"
    assert held["reasons"]
    assert Workspace.open(str(place / "ws")).current().release_id == second["release_id"]


def test_a_night_of_the_same_model_encodes_only_who_was_active_and_equals_a_full_one(
    lake: Path, place: Path, samespace: Run, vectors: Vectors
) -> None:
    words = ("nightly", "--lake", str(lake), "--as-of")
    first = samespace(*words, "2025-12-30", cwd=place)
    second = samespace(*words, "2025-12-31", cwd=place)
    metrics = second["stages"]["encode"]["metrics"]
    assert metrics["carried_from"] == first["release_id"]
    assert 0 < metrics["encoded"] - metrics["titles"] < metrics["members"] / 2
    full = samespace(*words, "2025-12-31", "--full", "--no-promote", cwd=place)
    assert full["stages"]["encode"]["metrics"]["carried"] == 0
    found, again = (Workspace.open(str(place / "ws")).release(night["release_id"]) for night in (second, full))
    for kind in ("member", "title"):
        got, expected = vectors(found, kind), vectors(again, kind)
        assert got[0] == expected[0]
        np.testing.assert_allclose(got[1], expected[1], atol=1e-6)
    since = found.members().to_table()["release_id"].to_pylist()
    assert since.count(first["release_id"]) == metrics["carried"]


def key_without_erased(lake: str, place: Path, *erased: int) -> str:
    """What an interrupted backfill goes on by, with some members on the list of the erased."""
    workspace = Workspace.open(str(place / "ws"))
    for member in erased:
        suppress(workspace.storage, member)
    return Backfill(Config(lake=lake), workspace, token=0).key


def test_a_backfill_is_the_past_of_the_space_for_whoever_asks_feast(
    lake: Path, two_nights: Two, tmp_path: Path, samespace: Run, vectors: Vectors
) -> None:
    import pandas as pd
    from feast import FeatureStore

    shutil.copytree(two_nights[0] / "ws", tmp_path / "ws")
    words = ("backfill", "--lake", str(lake), "--from", "2025-12-20", "--to", "2025-12-22")
    nights = samespace(*words, cwd=tmp_path)["nights"]
    assert [night["night"][:10] for night in nights] == ["2025-12-20", "2025-12-21", "2025-12-22"]
    assert 0 < nights[1]["members"] < nights[0]["members"]
    assert not (tmp_path / "ws" / "backfill").exists()
    assert key_without_erased(str(lake), tmp_path) != key_without_erased(str(lake), tmp_path, 4)
    ids, _ = vectors(Workspace.open(str(tmp_path / "ws")).current(), "member")
    store = FeatureStore(repo_path=str(tmp_path / "ws" / "feast"))

    def asked(when: datetime) -> set[Any]:
        frame = pd.DataFrame({"member_id": ids, "event_timestamp": [when] * len(ids)})
        found = store.get_historical_features(entity_df=frame, features=["member_embedding:embedding"]).to_df()
        return set(found[found["embedding"].notna()]["member_id"])

    assert asked(datetime(2025, 12, 19, 23, tzinfo=UTC)) == set()
    early = asked(datetime(2025, 12, 20, 1, tzinfo=UTC))
    assert len(early) == nights[0]["members"]
    assert early < asked(datetime(2025, 12, 22, 1, tzinfo=UTC))
    error = samespace(
        "backfill", "--lake", str(lake), "--from", "2025-12-20", "--to", "2099-01-01", cwd=tmp_path, expect=2
    )
    assert "begins at" in error["error"]["what"]
