"""Nights as processes of their own: killed, silent, with a model from a folder of the user's."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest

from stores.releases.workspace import Workspace

pytestmark = pytest.mark.slow
Run = Callable[..., dict[str, Any]]
Vectors = Callable[[Any, str], tuple[list[Any], np.ndarray]]


def test_a_night_that_is_stopped_or_killed_gives_the_lease_back_and_resumes_without_noise(
    lake: Path,
    place: Path,
    models: Path,
    process: Callable[..., subprocess.Popen[str]],
    samespace: Run,
    vectors: Vectors,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    words = ("nightly", "--lake", str(lake), "--as-of", "2026-01-02", "--set", "histories.members_per_shard=20")
    pattern = "ws/releases/*/work/entries/work/native/members/*.json"
    for shards, number in ((1, signal.SIGTERM), (3, signal.SIGKILL)):
        night = process(*words, "--set", "encode.workers=1", cwd=place)
        while night.poll() is None and len(list(place.glob(pattern))) < shards:
            time.sleep(0.01)
        os.killpg(night.pid, number)
        _, aside = night.communicate()
        if number is signal.SIGTERM:
            assert night.returncode == 143
            assert aside.endswith("stopped by SIGTERM; run the same command to resume\n")
            assert json.loads((place / "ws" / "lease.json").read_text())["released"]
    finished = list(place.glob(pattern))
    assert finished
    night = process(*words, cwd=place, as_json=False)
    told, noise = night.communicate()
    assert (night.returncode, noise) == (0, "")
    assert "next:" in told
    resumed = Workspace.open(str(place / "ws")).current()
    metrics = next(report.metrics for report in resumed.manifest.stages if report.name == "encode")
    assert metrics["shards_encoded"] <= metrics["shards"] - len(finished)

    other = tmp_path_factory.mktemp("undisturbed")
    (other / "ws").mkdir()
    (other / "ws" / "models").symlink_to(models)
    undisturbed = samespace(*words, cwd=other)
    for kind in ("member", "title"):
        got = vectors(resumed, kind)
        expected = vectors(Workspace.open(str(other / "ws")).release(undisturbed["release_id"]), kind)
        assert got[0] == expected[0]
        np.testing.assert_array_equal(got[1], expected[1])


OWN_MODEL = """
import numpy as np

class MyEncoder:
    model_id, dim = "mine", 16

    def _vector(self, title):
        return np.random.default_rng(title).standard_normal(self.dim)

    def encode_titles(self, titles):
        return np.stack([self._vector(title) for title in titles["title_id"].to_pylist()]).astype(np.float32)

    def encode_members(self, histories):
        if UNLUCKY in histories["member_id"].to_pylist():
            raise RuntimeError("this one is too much for me")
        lists = histories["title_id"].to_pylist()
        return np.stack([np.mean([self._vector(one) for one in titles], 0) for titles in lists]).astype(np.float32)
"""


def test_a_model_in_the_working_folder_runs_and_its_failures_are_named(
    lake: Path, tmp_path: Path, installed: Run, vectors: Vectors
) -> None:
    """The installed command, in a folder where packages of the user's have the names of ours."""
    seen = ds.dataset(lake / "interactions", partitioning="hive").to_table(columns=["member_id"])["member_id"]
    unlucky = pc.min(seen).as_py()
    (tmp_path / "mymodel.py").write_text(f"from constants import UNLUCKY\n{OWN_MODEL}")
    (tmp_path / "constants.py").write_text(f"UNLUCKY = {unlucky}\n")
    for package in ("pipeline", "validation", "stores", "embeddings"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('the folder of the user')")
    own = ("--set", "encode.encoder=mymodel:MyEncoder", "--set", "encode.max_bad_fraction=0.05")
    night = installed("nightly", "--lake", str(lake), *own, cwd=tmp_path)
    assert night["model_id"] == "mine"
    release = Workspace.open(str(tmp_path / "ws")).current()
    ids, native = vectors(release, "member")
    assert unlucky not in ids
    assert native.shape[1] == 16
    letters = release.storage.read_table("dead_letter/encode.parquet").to_pylist()
    assert [(row["value"], row["reason"]) for row in letters] == [
        (str(unlucky), "RuntimeError: this one is too much for me")
    ]
