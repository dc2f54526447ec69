"""Every command and every snippet that README and pages print runs, is told not to, or is at least understood."""

import importlib
import importlib.util
import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.cli import main
from stores.releases.workspace import Workspace
from tests.examples.printed import LANGUAGES, PAGES, ROOT, Shell, blocks, commands, filled, parsed

SMALL = [
    *("train.training.min_steps=20", "train.training.max_steps=20", "ray.num_cpus=2", "encode.workers=1"),
    *("gate.quality.min_ratio_to_popularity=0", "publish.registry_ttl_s=1", "tasks.steps_per_task=4"),
    'tasks.names=["next_title", "next_genre", "next_id"]',  # MovieLens has no durations to learn completion from
]
SETTINGS = [word for setting in SMALL for word in ("--set", setting)]
STANDS_FOR = {"…": "1", "N": "1", "SHELL": "bash"}
RUN = [page for page in PAGES if any(one.language in ("sh", "python") for one in blocks(page))]


def hook() -> Any:
    """The hook that makes the generated parts of pages."""
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "hooks" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES)
def test_no_page_is_built_with_a_part_that_was_not_put_in(page: str) -> None:
    built = hook().on_page_markdown((ROOT / page).read_text(encoding="utf-8"))
    for mark in ("--8<--", "-8<", "--8 <", "<!-- file", "<!-- commands", "<!-- samespace.toml", "{{", "{%", "((("):
        assert mark not in built, f"{page} shows {mark}"


def test_whole_files_are_put_into_the_pages_that_show_them() -> None:
    built = hook().on_page_markdown((ROOT / "docs/how-to/scheduling.md").read_text(encoding="utf-8"))
    for name in ("airflow_night.py", "kuberay_night.yaml"):
        assert (ROOT / "examples" / name).read_text(encoding="utf-8").rstrip() in built
    with pytest.raises(FileNotFoundError):
        hook().on_page_markdown("<!-- file examples/nothing.py -->")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_its_language_and_each_that_is_not_run_why(page: str) -> None:
    for one in blocks(page):
        if page == "README.md" and one.text.startswith("pipeline/  "):
            continue  # the tree of modules, which has a test of its own
        assert one.language in LANGUAGES, f"{one} is a block of {one.language or 'nothing'}"
        assert not one.reason or len(one.reason) > 10, f"{one} gives no reason"
        assert one.language != "console" or one.reason, f"{one} is a transcript: say of what"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_a_sentence_or_another_language_is_understood(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    inline = [words for part in re.findall(r"`(samespace [^`]+)`", text) for words in commands(part)]
    other = [words for one in blocks(page) if one.language in ("cron", "ini", "yaml") for words in commands(one.text)]
    for words in [*other, *(words for words in inline if len(words) > 1 and words[0] != "VERB")]:
        placed = [STANDS_FOR.get(word, word.strip("[]")) for word in words]
        assert parsed(placed) or parsed([*placed, "1"]) or parsed([*placed, "a", "b"]), f"{page}: samespace {words}"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_python_name_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for path in re.findall(
        r"`(?:python )?((?:examples|benchmarks|tests|docs)/[\w/.-]+\.(?:py|md|ipynb|yaml|svg))", text
    ):
        assert (ROOT / path).exists(), f"{page} names {path}"
    for name in re.findall(r"^::: ([\w.]+)$", text, re.M):
        module, _, last = name.rpartition(".")
        found = importlib.import_module(name) if not module else getattr(importlib.import_module(module), last, None)
        assert found is not None, f"{page} documents {name}"


# --- running them


@pytest.fixture(scope="module")
def template(small_movielens: str, ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a lake, two published nights of it, and the data that it was made of; each page gets a copy."""
    folder = tmp_path_factory.mktemp("template")
    raw = Path(shutil.copytree(small_movielens, folder / "ml-latest-small"))
    movies = (raw / "movies.csv").read_text()
    (raw / "movies.csv").write_text(movies.replace("1,Title 1 (1999)", "1,Toy Story (1995)", 1))
    lake, there = str(folder / "lake"), str(folder / "workspace")
    assert main(["import", "movielens", str(raw), lake]) == 0
    for words in ([], ["--full"]):
        assert main(["nightly", "--lake", lake, "--workspace", there, *words, *SETTINGS]) == 0
    return folder


@pytest.fixture(scope="module")
def port(template: Path) -> Iterator[int]:
    """The port of a service of the template's workspace."""
    pytest.importorskip("uvicorn", reason="the service's tests need the extra [serve]")
    from retrieval.service import ReleaseWatcher, ServeConfig, create_app, server
    from validation.report import plane_of

    live = ReleaseWatcher(Workspace.open(str(template / "workspace")))
    running = server(create_app(live, ServeConfig(), plane_of), ServeConfig(), port=0, log_level="critical")
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield running.servers[0].sockets[0].getsockname()[1]
    running.should_exit = True
    thread.join()


@pytest.fixture
def desk(template: Path, tmp_path: Path) -> Path:
    """A folder as a reader's: lake, workspace under its usual names, examples, and an environment to activate."""
    desk = Path(shutil.copytree(template, tmp_path / "desk"))
    for name in ("ws", "WS"):
        (desk / name).symlink_to("workspace")
    (desk / "LAKE").symlink_to("lake")
    (desk / "examples").symlink_to(ROOT / "examples")
    (desk / ".venv" / "bin").mkdir(parents=True)
    (desk / ".venv" / "bin" / "activate").write_text("")
    return desk


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_what_a_page_prints_runs_from_top_to_bottom(
    page: str, desk: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    workspace = Workspace.open(str(desk / "workspace"))
    with tempfile.TemporaryDirectory() as sockets:
        names, places = known(desk), placeholders(workspace, port)
        with closing(Shell(desk, SETTINGS, Path(sockets))) as shell:
            for one in blocks(page):
                if one.reason or one.language not in ("sh", "python"):
                    continue
                text = filled(one.text, places)
                if one.language == "python":
                    exec(compile(text, str(one), "exec"), names)
                    continue
                if "import movielens" in text:
                    shutil.rmtree(desk / "lake")  # nothing is imported over a lake that is there
                shell.run(text)


def placeholders(workspace: Workspace, port: int) -> dict[str, Any]:
    """Values for what a page leaves to its reader."""

    def generator() -> str:
        return next(
            name for name in workspace.models.folders() if workspace.models.exists(f"{name}/generator/hashes.json")
        )

    return {
        r"127\.0\.0\.1:8080": f"127.0.0.1:{port}",
        r"path/to/ml-latest-small": "ml-latest-small",
        r"<id of next_id>": generator,
        r"<id of \w+>": lambda: str(workspace.next_model()),
        r"<id>": lambda: workspace.current().release_id,
        r"\bBEFORE LIVE\b": lambda: " ".join(release.release_id for release in workspace.releases()[-2:]),
        r"(?<=promote )ID\b": lambda: workspace.releases()[-1].release_id,
        r"\[0\.1, …\]": lambda: json.dumps(
            np.ones(workspace.current().schema("titles").field("embedding").type.list_size).tolist()
        ),
        r"--to 2026-01-31": "--to 2026-01-02",
    }


def known(desk: Path) -> dict[str, Any]:
    """What a reader has at hand where a page's Python begins."""
    from feast import FeatureStore

    from embeddings.foundation.semantic_ids import SemanticIds
    from stores.files.filesystem import Storage

    release = Workspace.open(str(desk / "workspace")).current()
    rows = np.array(release.members().to_table()["embedding"].to_pylist(), np.float32)
    titles = np.array(release.titles().to_table()["embedding"].to_pylist(), np.float32)
    when = pd.Timestamp.now(tz="UTC")
    return {
        "events": pd.DataFrame({"member_id": [42, 7], "event_timestamp": [when, when], "label": [0, 1]}),
        "member_vectors": rows[:5],
        "queries": rows[:5],
        "seen": [[1, 2]] * 5,
        "mask": np.ones(len(titles), bool),
        "new_ids": [1_000_001, 1_000_002],
        "new_vectors": titles[:2] + 0.01,
        "vectors": titles,
        "new": titles[:3],
        "entity_rows": [{"member_id": 42, "title_id": 1}],
        "store": FeatureStore(repo_path=str(desk / "workspace" / "feast")),
        "storage": Storage(str(desk / "ids")),
        "SemanticIds": SemanticIds,
        "histories": release.histories().to_table().slice(0, 5),
        "catalogue": release.titles().to_table(),
        "pa": pa,
    }
