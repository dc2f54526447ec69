"""Room on a Ray cluster: how many actors its nodes hold, how many to ask for, and when no node will ever hold one.

Actors that wait for a node are the demand that an autoscaler answers: it starts nodes for them as far as the cluster's
configuration allows. They end with the job, also where it is killed; a call of `request_resources` would keep nodes
running until another call.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from stores.errors import ClusterError, ConfigError

Resources = Mapping[str, float]
ONE_CPU: Resources = {"CPU": 1.0}
_MAX_WAITING_ACTORS = 64
"""Actors that may wait for nodes which an autoscaler has to start first."""
_ROUNDING = 1e-9
_node_wait_s: ContextVar[float] = ContextVar("node_wait_s", default=0.0)


@contextmanager
def waiting_for_nodes(wait_s: float) -> Iterator[None]:
    """Within it the cluster may grow, and jobs wait for nodes so many seconds; 0: no node will come."""
    before = _node_wait_s.set(wait_s)
    try:
        yield
    finally:
        _node_wait_s.reset(before)


class Capacity:
    """What the nodes of the cluster have, idle or not."""

    @property
    def wait_s(self) -> float:
        """Seconds to wait for a node that the cluster does not have yet."""
        return _node_wait_s.get()

    def nodes(self) -> list[dict[str, Any]]:
        """The resources of each node that is alive, by Ray's names."""
        import ray

        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def max_actors(self, resources: Resources) -> int:
        """How many actors of these resources the nodes hold together, were they free."""
        return sum(_on_node(node, resources) for node in self.nodes())

    def num_actors(self, resources: Resources, needed: int) -> int:
        """How many actors to ask for: those that have room and, on a cluster that may grow, as many as are needed."""
        room = self.max_actors(resources)
        return max(room, min(needed, room + _MAX_WAITING_ACTORS)) if self.wait_s else room

    def require(self, resources: Resources, who: str, setting: str = "") -> None:
        """Raise ConfigError where no node holds `who`, and none will come."""
        if not self.wait_s and not self.max_actors(resources):
            raise ConfigError(f"no node of the Ray cluster can hold {who}", **self._facts(resources, setting))

    def give_up(self, resources: Resources, waited_s: float, who: str, setting: str = "") -> None:
        """Raise ClusterError where no node holds `who` and it was waited for one as long as is allowed."""
        if waited_s > self.wait_s and not self.max_actors(resources):
            raise ClusterError(
                f"no node came that can hold a {who}, in {waited_s:.0f} s", **self._facts(resources, setting)
            )

    def _facts(self, resources: Resources, setting: str) -> dict[str, str]:
        nodes = "; ".join(_shown(node) for node in self.nodes()) or "none"
        cure = f"another {setting.partition(' ')[0]}, or " if setting else ""
        return {
            "where": setting or "ray",
            "expected": f"a node with {_shown(resources)}; the nodes have {nodes}",
            "fix": f"{cure}a cluster with such nodes (ray.address); ray.node_wait_s is how long to wait for one",
        }


def _on_node(node: Resources, resources: Resources) -> int:
    """How many actors a node holds. A share of a GPU lies on one device, so that what is left of each is lost."""
    counts = []
    for name, each in resources.items():
        if each > 0:
            have = node.get(name, 0.0)
            shared = name == "GPU" and each < 1
            counts.append(int(have) * int(1 / each + _ROUNDING) if shared else int(have / each + _ROUNDING))
    return min(counts, default=1)


def _shown(resources: Resources) -> str:
    names = [name for name in ("CPU", "GPU") if resources.get(name)]
    return ", ".join(f"{name} {resources[name]:g}" for name in names) or "neither CPU nor GPU"
