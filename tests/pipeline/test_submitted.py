"""A night submitted as a Ray job: its code travels as a working directory, lake and workspace are on a store."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.releases.workspace import Workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("SAMESPACE_SUBMIT" not in os.environ, reason="set SAMESPACE_SUBMIT=1: it starts a cluster"),
]

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("alignment", "embeddings", "pipeline", "retrieval", "stores", "validation")
PATIENT = {"RAY_worker_niceness": "0", "RAY_raylet_start_wait_time_s": "120"}
"""On a machine that other programs share nodes are slow to come up, and nice workers starve."""
SUBMIT = """
import json, sys, time
import ray
from ray.cluster_utils import Cluster
from ray.job_submission import JobStatus, JobSubmissionClient

ports = {"dashboard_port": 0, "dashboard_agent_listen_port": 0}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": True, **ports})
cluster.add_node(num_cpus=1, temp_dir=sys.argv[3], dashboard_agent_listen_port=0)
try:
    client = JobSubmissionClient("http://" + cluster.head_node.webui_url)
    for attempt in range(60):
        try:
            job = client.submit_job(entrypoint=sys.argv[1], runtime_env=json.loads(sys.argv[2]))
            break
        except RuntimeError:  # the agent of the node is not up yet
            time.sleep(2)
    while (status := client.get_job_status(job)) not in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.STOPPED):
        time.sleep(1)
    print(client.get_job_logs(job))
    print(json.dumps({"status": status.value}))
finally:
    cluster.shutdown()
"""


def test_a_submitted_night_is_published_on_the_object_store(s3_bucket: str, tmp_path: Path) -> None:
    simulate(f"{s3_bucket}/submitted/lake", SimulationConfig(members=120, titles=80, days=20, seed=3))
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / "code" / package, ignore=shutil.ignore_patterns("__pycache__"))
    settings = {
        "ray.address": "auto",
        "train.training.min_steps": 40,
        "train.training.max_steps": 40,
        "gate.quality.min_ratio_to_popularity": 0,
    }
    places = ["--lake", f"{s3_bucket}/submitted/lake", "--workspace", f"{s3_bucket}/submitted/ws"]
    chosen = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    entrypoint = " ".join([sys.executable, "-m", "pipeline.cli", "nightly", *places, *chosen])
    secrets = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    runtime: dict[str, Any] = {"working_dir": str(tmp_path / "code"), "env_vars": secrets}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # A second node that shared the first one's directory would unpack the code anew, below the feet of the driver.
    with tempfile.TemporaryDirectory(prefix="ray-") as second:
        done = subprocess.run(
            [sys.executable, "-c", SUBMIT, entrypoint, json.dumps(runtime), second],
            cwd=tmp_path,
            env={**environment, "RAY_USAGE_STATS_ENABLED": "0", **PATIENT},
            capture_output=True,
            text=True,
            check=False,
            timeout=550,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"status": "SUCCEEDED"}, done.stdout
    release = Workspace.open(f"{s3_bucket}/submitted/ws").current()
    assert release.verify() == []
    assert release.members().count_rows() > 0
