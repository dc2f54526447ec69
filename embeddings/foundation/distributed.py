"""A training on several processes, through `ray.train`: one gloo group, each process takes a part of every step."""

import uuid
from typing import Any

import pyarrow as pa
import ray
import torch
from ray.train import RunConfig, ScalingConfig, WorkerGroupError, get_context
from ray.train.torch import TorchConfig, TorchTrainer

from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.team import Team
from embeddings.foundation.training import TrainedModel, learn
from stores.errors import SamespaceError
from stores.storage import Storage


class _Trainer(TorchTrainer):  # type: ignore[misc]  # Ray has no types
    """A trainer that leaves Ctrl-C to the command, also after the training, where Ray's handler would end it with 0."""

    def _register_sigint_handler(self, controller: Any) -> None:
        """Install nothing."""


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
    lesson = {"histories": histories, "catalogue": catalogue, "config": config, "seed": seed, "models": models}
    marks = f"unfinished-workers-{uuid.uuid4().hex}"
    trainer = _Trainer(
        _as_one_of_the_team,
        train_loop_config={"lesson": ray.put({**lesson, "parent": parent}), "threads": threads},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=config.workers, resources_per_worker={"CPU": threads}),
        run_config=RunConfig(storage_filesystem=models.fs, storage_path=marks),
    )
    try:
        model: TrainedModel = trainer.fit().return_value
        return model
    except WorkerGroupError as error:
        ours = (cause for cause in error.worker_failures.values() if isinstance(cause, SamespaceError))
        raise next(ours, error) from error
    finally:
        models.delete_tree(marks)


def _as_one_of_the_team(told: dict[str, Any]) -> TrainedModel:
    """Learn in one of the processes; all of them return the same."""
    torch.set_num_threads(told["threads"])
    lesson, place = ray.get(told["lesson"]), get_context()
    return learn(**lesson, team=Team(place.get_world_rank(), place.get_world_size(), lesson["seed"]))
