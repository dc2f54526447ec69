"""The doctor finds what usually goes wrong, and says what to do."""

import json
from pathlib import Path

import pytest

from pipeline import health_checks
from pipeline.config import Config
from stores.releases.workspace import Workspace


def found(config: Config, what: str) -> dict[str, str]:
    findings = health_checks.check_environment(config, Workspace.open(config.workspace))
    return next((one for one in findings if one["what"] == what), {"state": "nothing said"})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(workspace=str(tmp_path / "ws"))


def test_an_empty_place_is_fit(config: Config) -> None:
    assert {one["state"] for one in health_checks.check_environment(config, Workspace.open(config.workspace))} == {"ok"}
    assert "bad" not in {one["state"] for one in health_checks.check_machine()}


def test_a_lake_that_is_not_there_or_has_a_broken_file(config: Config, tmp_path: Path) -> None:
    assert found(config.model_copy(update={"lake": str(tmp_path / "no")}), "lake")["state"] == "bad"


def test_both_builds_of_faiss_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_checks, "_version", lambda name: "1")
    assert next(one for one in health_checks.check_machine() if one["what"] == "faiss")["state"] == "bad"
    monkeypatch.setattr(health_checks, "_version", lambda name: "")
    without = {one["what"]: one for one in health_checks.check_machine()}
    assert without["faiss"]["state"] == without["torch"]["state"] == "bad"
    assert "pip install" in without["faiss"]["try"]


def test_a_pointer_to_nothing_a_model_that_is_gone_a_night_that_stopped(config: Config) -> None:
    storage = Workspace.open(config.workspace).storage
    storage.write("current.json", json.dumps({"release_id": "20260721T020000Z-3f9a"}).encode())
    storage.write("models/next.json", b'{"model_id": "gone"}')
    storage.write("releases/20260722T020000Z-3f9a/plan.json", b"{}")
    assert found(config, "workspace")["state"] == "bad"
    assert found(config, "model")["state"] == "bad"
    assert found(config, "unfinished")["state"] == "warn"


def test_a_redis_that_does_not_answer(config: Config) -> None:
    store = {"type": "redis", "connection_string": "127.0.0.1:1"}
    publish = config.publish.model_copy(update={"online_store": store})
    finding = found(config.model_copy(update={"publish": publish}), "online store")
    assert finding["state"] == "bad"
    assert "127.0.0.1" in finding["says"]


def test_a_changed_byte_is_found(config: Config) -> None:
    workspace = Workspace.open(config.workspace)
    workspace.storage.write("releases/20260722T020000Z-3f9a/manifest.json", b"{}")
    assert health_checks.verify_files(workspace)[0]["state"] == "bad"


def test_a_full_disk_and_a_writer(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_checks.shutil, "disk_usage", lambda _: type("usage", (), {"free": 1})())
    assert found(config, "disk")["state"] == "bad"
    monkeypatch.setattr(health_checks, "current_lease", lambda _: {"purpose": "a night"})
    assert "a night" in found(config, "writer")["says"]
