"""The encode stage as a night runs it, in a process of its own: its workers start while the input is judged.

What that costs counts: `seconds` are those of the gate of the input and of the encode stage together, from which the
gate alone is to be taken away; never less than `stage`, which is what the line of the night says. Ray is up before
the clock starts.

    python benchmarks/ahead.py WORKSPACE RELEASE
"""

import argparse
import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

FOLDER = str(Path(__file__).resolve().parent)


def gated(uri: str, name: str, alone: bool) -> dict[str, Any]:
    """Judge the input of a release and, unless `alone`, encode it; seconds, and the figures of the stage."""
    from embeddings.encode.job import EncodeJob
    from pipeline.config import Config
    from pipeline.ray_cluster import ray_cluster
    from pipeline.vector_reuse import reuse_from_live
    from stores.releases.release import Release
    from validation.job import run_input

    config, release = Config(workspace=uri), Release(uri, name)
    with ray_cluster(config.ray), EncodeJob(config.encode, release, reuse_from_live(config, release)) as encoding:
        began = time.perf_counter()
        if not alone:
            encoding.start()
        run_input(config.gate, release)
        judged = time.perf_counter()
        metrics = {} if alone else encoding.run().metrics
        return {"seconds": time.perf_counter() - began, "stage": time.perf_counter() - judged, "metrics": metrics}


def by_itself(uri: str, name: str, alone: bool = False) -> dict[str, Any]:
    """`gated` in a process of its own: a night imports its libraries once."""
    command = [sys.executable, __file__, uri, name, *(["--alone"] * alone)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def gate_alone(uri: str, name: str) -> float:
    """Seconds of the gate of the input alone, the median of three."""
    return float(median(by_itself(uri, name, alone=True)["seconds"] for _ in range(3)))


def main() -> None:
    """Run one and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace")
    parser.add_argument("release")
    parser.add_argument("--alone", action="store_true", help="the gate of the input, nothing encoded")
    args = parser.parse_args()
    gc.set_threshold(10_000)  # as the command does
    # Beside this script lie others named as packages of ours, for this process and for Ray's workers.
    sys.path.remove(FOLDER)
    print(json.dumps(gated(args.workspace, args.release, args.alone)))


if __name__ == "__main__":
    main()
