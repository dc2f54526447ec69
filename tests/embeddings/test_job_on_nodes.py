"""The encode job on a cluster that loses a node."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from embeddings.encode import job
from embeddings.encode.config import EncodeConfig
from embeddings.encode.worker import ShardWorker

HERE = Path(__file__).resolve().parent
HISTORIES = {member: [member % 10, (3 * member) % 10] for member in range(60)}


def rows(release: Any) -> list[dict[str, Any]]:
    table = release.storage.dataset("work/native/members").to_table()
    found: list[dict[str, Any]] = table.select(["member_id", "embedding", "history_hash"]).to_pylist()
    return found


@pytest.mark.slow
def test_a_node_that_is_killed_costs_no_row(nights: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed, release = nights.stage(HISTORIES), nights.stage(HISTORIES)
    (tmp_path / "seen").touch()
    places = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "RAY_USAGE_STATS_ENABLED": "0"}

    def run(name: str) -> dict[str, Any]:
        command = [sys.executable, str(HERE / "cluster_of_nodes.py"), nights.uri, name, str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("{")]
        return dict(json.loads(line))

    metrics = run(release.release_id)
    assert metrics["nodes_left"] == 2
    assert metrics["members"] == len(HISTORIES)

    monkeypatch.syspath_prepend(str(HERE))
    worker = ShardWorker(EncodeConfig(encoder="own_models:Titles", model=str(tmp_path)), undisturbed, None)
    for task in job.shard_tasks(EncodeConfig(), undisturbed):
        worker.encode(task)
    assert rows(release) == rows(undisturbed)
