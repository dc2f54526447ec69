"""A training on several processes: Ray actors in one gloo group, each of which takes a part of every step.

Plain actors, not `ray.train`: that loads all of Ray's data library into every process, and minutes of it on a busy
machine, for what is a rendezvous here.
"""

import socket
from contextlib import closing
from typing import Any

import pyarrow as pa
import ray
import torch
from ray.exceptions import RayTaskError
from torch import distributed

from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.team import Team
from embeddings.foundation.training import TrainedModel, learn
from stores.errors import SamespaceError
from stores.storage import Storage


class Worker:
    """One process of a training."""

    def address(self) -> str:
        """Where the processes can meet: a free port of this one's machine."""
        with closing(socket.socket()) as free:
            free.bind(("", 0))
            return f"tcp://{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def train(self, team: Team, address: str, threads: int, lesson: dict[str, Any]) -> TrainedModel:
        """Learn as one of the team; all of it return the same."""
        torch.set_num_threads(threads)
        distributed.init_process_group("gloo", address, rank=team.rank, world_size=team.size)
        try:
            return learn(**lesson, team=team)
        finally:
            distributed.destroy_process_group()


def train_on_workers(
    histories: pa.Table,
    catalogue: pa.Table,
    config: FoundationConfig,
    seed: int,
    models: Storage,
    parent: str | None = None,
) -> TrainedModel:
    """What `training.train` does, by `config.workers` processes.

    Ray must be running; its processors are dealt out evenly. An error of ours in a worker is raised here too.
    """
    threads = max(1, int(ray.cluster_resources().get("CPU", 1)) // config.workers)
    workers = [ray.remote(Worker).options(num_cpus=threads).remote() for _ in range(config.workers)]
    lesson = {"histories": histories, "catalogue": catalogue, "config": config, "seed": seed, "models": models}
    shared = ray.put({**lesson, "parent": parent})
    address = ray.get(workers[0].address.remote())
    try:
        return _first(
            [
                worker.train.remote(Team(rank, config.workers, seed), address, threads, shared)
                for rank, worker in enumerate(workers)
            ]
        )
    finally:
        for worker in workers:
            ray.kill(worker)


def _first(waiting: list[Any]) -> TrainedModel:
    """What the first of the team returns when all are done; the error of any one as soon as it is there."""
    every = list(waiting)
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)
    except RayTaskError as error:
        if isinstance(error.cause, SamespaceError):
            raise error.cause from error
        raise
    model: TrainedModel = ray.get(every[0])
    return model
