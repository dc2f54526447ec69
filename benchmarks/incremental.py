"""A night with few active members: encode and publish beside those of a full night with the same model.

Both nights are of the same members; in the second some of them have a longer history, the others are carried forward.
The vectors of the second night are compared with those of a full one on the same histories. The floor is the share of
active members: nothing else has to be encoded or written. Seconds are of the clock, with the start of the workers as a
night pays for it (`ahead`); the import of Feast (`feast_s`) is in neither night. `processor` is what shards and
publication took of processors, whatever else the machine did.

    python benchmarks/incremental.py --size full --active 0.05
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from ahead import by_itself, gate_alone
from staging import service, simulated, staged

# Beside this script lies another one named as a package of ours, for this process and for Ray's workers.
sys.path.remove(str(Path(__file__).resolve().parent))

import alignment.job
from alignment.config import AlignmentConfig
from alignment.transform import AlignmentTransform
from embeddings.encode import job
from embeddings.encode.config import EncodeConfig
from embeddings.foundation import train
from embeddings.foundation.config import FoundationConfig, TrainingConfig
from pipeline.ray_cluster import RayConfig, ray_cluster
from stores.feast.release_diff import vectors
from stores.feast.repository import PublishConfig, import_feast
from stores.publishing.publish import publish
from stores.releases.lease import lease
from stores.releases.release import Release, StageReport
from stores.releases.workspace import Workspace

SIZES = {"small": 2_000, "medium": 1_000_000, "full": 2_000_000}


def active(histories: pa.Table, share: float) -> pa.Table:
    """The same members; some, spread evenly, have the history of another one."""
    some = np.random.default_rng(1).random(histories.num_rows) < share
    order = np.where(some, np.roll(np.arange(histories.num_rows), 1), np.arange(histories.num_rows))
    return histories.take(order).set_column(0, "member_id", histories["member_id"])


def tomorrow(few: pa.Table, members: int, share: float) -> Iterator[pa.Table]:
    """The shards of the next night."""
    return (active(shard, share) for shard in service(few, members))


def night(release: Release, workspace: Workspace, transform: AlignmentTransform, gate: float) -> dict[str, Any]:
    """Encode, apply the transform, seal and publish; the seconds of the first and the last."""
    encoded = by_itself(workspace.uri, release.release_id)
    metrics = encoded["metrics"]
    alignment.job.apply(release, transform)
    release.write_bytes(alignment.job.TRANSFORM, transform.to_bytes())
    release.seal([], [StageReport(name="encode", metrics=metrics)], {})
    began, busy = time.perf_counter(), time.process_time()
    with lease(workspace.storage, "benchmark"):
        publish(workspace, Release(workspace.uri, release.release_id), PublishConfig())
    return {
        "encode": max(encoded["seconds"] - gate, encoded["stage"]),
        "stage": encoded["stage"],
        "publish": time.perf_counter() - began,
        "processor": metrics["processor_seconds"] + time.process_time() - busy,
        "carried": metrics["carried"],
    }


def measure(members: int, share: float, folder: Path) -> dict[str, Any]:
    """The whole table of one size."""
    workspace, began = Workspace.open(str(folder / "ws")), time.perf_counter()
    import_feast()
    feast_s = time.perf_counter() - began
    few, catalogue = simulated(folder)
    config = FoundationConfig(training=TrainingConfig(min_steps=5, max_steps=5))
    model = train(few, catalogue, config, 0, workspace.models.uri)
    dim = config.network.dim
    same = AlignmentTransform(np.eye(dim), np.eye(dim), np.ones(dim), AlignmentConfig().mode, dim)
    opened = staged(workspace.uri, "1", service(few, members), catalogue, model.model_id)
    gate = gate_alone(workspace.uri, opened.release_id)
    with ray_cluster(RayConfig()):
        full = night(opened, workspace, same, gate)
        live = Release(workspace.uri, opened.release_id)
        tonight = staged(workspace.uri, "2", tomorrow(few, members, share), catalogue, model.model_id, live)
        few_active = night(tonight, workspace, same, gate)
        again = staged(workspace.uri, "3", tomorrow(few, members, share), catalogue, model.model_id)
        job.run(EncodeConfig(), again)
        alignment.job.apply(again, same)
    found, expected = (vectors(one.storage.dataset("members").to_table()) for one in (tonight, again))
    seconds = [night["encode"] + night["publish"] for night in (full, few_active)]
    return {
        "stage": "incremental",
        "ours": seconds[1],
        "floor": share * seconds[0],
        "peers": {"full_night": seconds[0]},
        "unit": "s",
        "ratio_floor": share * seconds[0] / seconds[1],
        "ratios": {"full_night": seconds[0] / seconds[1]},
        "ratio_best_peer": seconds[0] / seconds[1],
        "quality": {
            "share_of_full": seconds[1] / seconds[0],
            "share_of_processor": few_active["processor"] / full["processor"],
            "largest_difference": float(np.abs(found - expected).max()),
            "members": members,
            "gate": gate,
            "feast_s": feast_s,
            "active": share,
            "full": full,
            "few_active": few_active,
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--active", type=float, default=0.05)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {"size": args.size, **measure(SIZES[args.size], args.active, Path(folder))}
    if not args.json:
        quality = found["quality"]
        for name in ("full", "few_active"):
            times = "   ".join(f"{part} {quality[name][part]:8.1f} s" for part in ("encode", "publish", "processor"))
            print(f"{name:<12} {times}")
        shares = f"{quality['share_of_full']:.3f} by the clock, {quality['share_of_processor']:.3f} of the processor"
        print(f"of a full night {shares}, largest difference {quality['largest_difference']:.1e}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
