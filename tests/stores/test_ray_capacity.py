"""Room for actors on the nodes of a cluster."""

from typing import Any

import pytest

from stores.errors import ClusterError, ConfigError
from stores.ray_capacity import ONE_CPU, Capacity, waiting_for_nodes

GPU = {"CPU": 1.0, "GPU": 1.0}


class Nodes(Capacity):
    def __init__(self, *nodes: dict[str, float]) -> None:
        self.there = list(nodes)

    def nodes(self) -> list[dict[str, Any]]:
        return self.there


@pytest.mark.parametrize(
    ("resources", "nodes", "room"),
    [
        (ONE_CPU, [{"CPU": 2.0}, {"CPU": 3.5}, {}], 5),
        (GPU, [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 64.0}], 2),
        (GPU, [{"CPU": 1.0, "GPU": 8.0}], 1),
        ({"CPU": 1.0, "GPU": 0.0}, [{"CPU": 2.0}], 2),
        ({"CPU": 1.0, "GPU": 0.6}, [{"CPU": 8.0, "GPU": 2.0}], 2),  # a share lies on one device
        ({"CPU": 1.0, "GPU": 0.1}, [{"CPU": 64.0, "GPU": 1.0}], 10),
        ({"CPU": 1.0, "GPU": 2.0}, [{"CPU": 64.0, "GPU": 1.0}, {"CPU": 64.0, "GPU": 5.0}], 2),
        (GPU, [{"CPU": 8.0}], 0),
    ],
)
def test_room_is_counted_node_by_node(resources: dict[str, float], nodes: list[dict[str, float]], room: int) -> None:
    assert Nodes(*nodes).max_actors(resources) == room


def test_what_can_never_be_had_is_refused_by_name() -> None:
    nodes = Nodes({"CPU": 8.0}, {"memory": 1e9})
    nodes.require(ONE_CPU, "a task")
    with pytest.raises(ConfigError, match="no node") as caught:
        nodes.require(GPU, "encoding worker", "encode.gpus_per_worker = 1")
    assert caught.value.where == "encode.gpus_per_worker = 1"
    assert "GPU 1" in caught.value.expected
    assert "CPU 8" in caught.value.expected
    with waiting_for_nodes(60.0):
        nodes.require(GPU, "encoding worker")  # a node may come
        nodes.give_up(GPU, 59.0, "encoding worker")
        with pytest.raises(ClusterError, match="61 s"):
            nodes.give_up(GPU, 61.0, "encoding worker")
        nodes.give_up(ONE_CPU, 10**6, "task")  # there is room, only not at the moment


def test_a_cluster_that_grows_is_asked_for_what_the_shards_need() -> None:
    nodes = Nodes({"CPU": 4.0})
    assert nodes.num_actors(GPU, 16) == 0
    with waiting_for_nodes(60.0):
        assert nodes.num_actors(GPU, 16) == 16
        assert nodes.num_actors(ONE_CPU, 16) == 16
        assert nodes.num_actors(ONE_CPU, 2) == 4
        assert nodes.num_actors(GPU, 10**6) < 100  # not every shard waits for a node of its own
