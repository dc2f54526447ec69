"""What `docs/security.md` promises and no other test shows."""

import ast
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import main
from pipeline.config import Config
from pipeline.ray_cluster import RayConfig, ray_cluster
from pipeline.run_plan import NightRequest, RunInputs, resume_or_stage
from retrieval.service.config import ServeConfig
from stores.errors import UsageError
from stores.files.filesystem import Storage
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.releases.lease import lease
from stores.releases.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("alignment", "embeddings", "pipeline", "retrieval", "stores", "validation")
UNPICKLING = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch.load", "numpy.load", "np.load"}
SECRET = "correct-horse-battery"


def test_nothing_we_read_can_run_code() -> None:
    """Weights and all other files are safetensors, Parquet, JSON, TOML or FAISS; nothing is unpickled or evaluated."""
    found = []
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [ast.unparse(node)] if isinstance(node, ast.Attribute) else []
                names += [node.func.id] if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else []
                found += [f"{path}: {name}" for name in names if name in UNPICKLING | {"eval", "exec"}]
    assert found == []


@pytest.mark.parametrize("path", ["../x", "models/../../x", "a/..", "x\0y"])
def test_no_path_leaves_its_root(path: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("outside")
    inside = Storage(str(tmp_path / "root" / "deep"))
    calls = (inside.read, inside.exists, inside.read_table, inside.delete_tree, lambda path: inside.write(path, b""))
    for call in calls:
        with pytest.raises(UsageError, match="not a path"):
            call(path)
    assert (tmp_path / "x").read_text() == "outside"


@pytest.mark.parametrize("name", ["../../etc", "..", "a/b", "x\0y", "20260101T000000Z-abcd/../x"])
@pytest.mark.parametrize("verb", [["releases", "show"], ["promote"], ["report"], ["dead-letter"], ["diff", "x"]])
def test_a_name_given_to_a_command_never_becomes_a_path(
    verb: list[str], name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main([*verb, name, "--workspace", str(tmp_path / "ws"), "--json"])
    assert code == 2, capsys.readouterr().out
    assert not (tmp_path / "ws" / "releases").exists()


def test_secrets_are_in_no_file_of_a_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is configured for Feast's stores nor what the environment holds enters a plan."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("SAMESPACE_TOKEN", SECRET)
    lake, store = str(tmp_path / "lake"), {"type": "redis", "connection_string": f"redis:6379,password={SECRET}"}
    offline = {"type": "postgres", "password": SECRET}
    simulate(lake, SimulationConfig(members=20, titles=20, days=3))
    config = Config.model_validate({"lake": lake, "publish": {"online_store": store, "offline_store": offline}})
    workspace = Workspace.open(str(tmp_path / "ws"))
    with lease(workspace.storage, "test") as token:
        release, _ = resume_or_stage(
            workspace, RunInputs(config, NightRequest(), "m", Lake.open(lake).fingerprint()), token, False
        )
    release.seal([], [], {})
    written = [path for path in (tmp_path / "ws").rglob("*") if path.is_file()]
    assert [path.name for path in written if SECRET.encode() in path.read_bytes()] == []
    assert {"plan.json", "manifest.json"} <= {path.name for path in written}


def test_a_wrong_setting_of_the_store_does_not_show_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    setting = f'publish.online_store="redis:6379,password={SECRET}"'
    assert main(["plan", "--lake", "lake", "--set", setting, "--json"]) == 2
    assert SECRET not in "".join(capsys.readouterr())


def test_ray_opens_no_dashboard_and_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    asked: dict[str, Any] = {}
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **words: asked.update(words))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with ray_cluster(RayConfig(num_cpus=1)):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert asked["include_dashboard"] is False
    assert asked["address"] == "local"


def test_by_default_only_this_machine_is_listened_to() -> None:
    assert ServeConfig().is_loopback
    assert not ServeConfig(host="0.0.0.0").is_loopback


def test_every_promise_names_a_test_that_is_there() -> None:
    """The tests that `docs/security.md` and `docs/faults.md` name."""
    for page in ("security.md", "faults.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
        assert named
        for path, test in named:
            assert (ROOT / path).exists(), path
            assert not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"


def test_the_table_of_licences_has_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["cpu"], *extras["serve"]]
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    missing = {name for line in wanted if (name := re.split(r"[\[<>=;~ ]", line)[0]) and f"| {name} |" not in page}
    assert missing == set()
