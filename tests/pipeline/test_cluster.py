"""The files that start clusters: Ray accepts the launcher's, and the commands in them are commands of ours."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml

from pipeline.cli import _parse
from pipeline.config import read_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def schema() -> Any:
    return json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())


@pytest.fixture
def launcher() -> Any:
    return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())


def test_ray_accepts_the_launchers_file(launcher: Any, schema: Any) -> None:
    jsonschema.validate(launcher, schema)
    assert launcher["head_node_type"] in launcher["available_node_types"]


@pytest.mark.parametrize("change", [{"max_workers": "many"}, {"idle_timeout": 5}, {"provider": {}}])
def test_ray_would_say_what_is_wrong_with_it(launcher: Any, schema: Any, change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**launcher, **change}, schema)


def commands() -> list[str]:
    job = yaml.safe_load((ROOT / "examples" / "kuberay_night.yaml").read_text())
    comment = re.sub(r"\s*\\\n#\s*", " ", (ROOT / "ray_cluster.yaml").read_text())
    submitted = re.search(r"ray job submit .*?-- \S*/(samespace .*)", comment)
    assert submitted
    return [job["spec"]["entrypoint"], submitted[1]]


@pytest.mark.parametrize("command", commands(), ids=["kuberay", "launcher"])
def test_their_commands_are_ours(command: str) -> None:
    program, *words = shlex.split(command)
    assert program == "samespace"
    args = _parse(words)
    config = read_config(None, args.set, lake=args.lake, workspace=args.workspace)
    assert args.verb == "nightly"
    assert config.ray.address == "auto"


def test_the_kuberay_job_is_one() -> None:
    job = yaml.safe_load((ROOT / "examples" / "kuberay_night.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    groups = [job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    images = {container["image"] for group in groups for container in group["template"]["spec"]["containers"]}
    assert len(images) == 1
