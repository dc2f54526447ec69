"""Runs the encode job of a staged release on a Ray cluster of several nodes, one of which is killed on the way.

A process of its own, for Ray can join one cluster at a time: `cluster_of_nodes.py WORKSPACE RELEASE FOLDER`.
"""

import json
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from embeddings.encode import job
from embeddings.encode.config import EncodeConfig
from stores.releases.release import Release

SHARDS = 3
"""As many as the tests' nights have, one for each of the three workers."""


def main(workspace, release_id, folder):
    release = Release(workspace, release_id)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    killed = threading.Thread(target=kill_when_begun, args=(cluster, nodes[0], Path(folder) / "seen"))
    killed.start()
    try:
        report = job.run(EncodeConfig(encoder="own_models:Slow", model=folder, batch_size=2), release)
        killed.join()
        print(json.dumps(report.metrics | {"nodes_left": nodes_left()}))
    finally:
        ray.shutdown()
        cluster.shutdown()


def kill_when_begun(cluster, node, seen):
    """Kill a node, with no time to say goodbye, once every shard has been begun and none can be finished."""
    while {int(member) % SHARDS for member in seen.read_text().split()} != set(range(SHARDS)):
        time.sleep(0.05)
    cluster.remove_node(node, allow_graceful=False)


def nodes_left(patience=60):
    """Nodes that are alive, once the cluster knows of the dead one."""
    deadline = time.monotonic() + patience
    while (alive := sum(node["Alive"] for node in ray.nodes())) == 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


if __name__ == "__main__":
    main(*sys.argv[1:])
