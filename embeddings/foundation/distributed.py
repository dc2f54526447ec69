"""Train on several processes through `ray.train`: one gloo group, each process takes a part of every step."""

import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import pyarrow as pa
import ray
import torch
from ray.train import RunConfig, ScalingConfig, WorkerGroupError, get_context
from ray.train.torch import TorchConfig, TorchTrainer

from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.process_group import ProcessGroup
from stores.errors import SamespaceError
from stores.files.filesystem import Storage

T = TypeVar("T")


class _Trainer(TorchTrainer):  # type: ignore[misc]  # Ray has no types
    """A trainer that leaves Ctrl-C to the command, also after the training, where Ray's handler would end it with 0."""

    def _register_sigint_handler(self, controller: Any) -> None:
        """Install nothing."""


def train_on_workers(
    learn: Callable[..., T],
    histories: pa.Table,
    catalogue: pa.Table,
    config: FoundationConfig,
    seed: int,
    models: Storage,
    parent: str | None = None,
) -> T:
    """Call `learn` in `config.workers` processes, each with its `ProcessGroup` as `team`; all return the same.

    Ray must be running; its processors are dealt out evenly. An error of ours in a worker is raised here too.
    """
    threads = max(1, int(ray.cluster_resources().get("CPU", 1)) // config.workers)
    lesson = {"histories": histories, "catalogue": catalogue, "config": config, "seed": seed, "models": models}
    marks = f"unfinished-workers-{uuid.uuid4().hex}"
    trainer = _Trainer(
        _train_worker,
        train_loop_config={"lesson": ray.put({**lesson, "parent": parent}), "learn": learn, "threads": threads},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=config.workers, resources_per_worker={"CPU": threads}),
        run_config=RunConfig(storage_filesystem=models.fs, storage_path=marks),
    )
    try:
        model: T = trainer.fit().return_value
        return model
    except WorkerGroupError as error:
        ours = (cause for cause in error.worker_failures.values() if isinstance(cause, SamespaceError))
        raise next(ours, error) from error
    finally:
        models.delete_tree(marks)


def _train_worker(work: dict[str, Any]) -> Any:
    """Learn in one of the processes."""
    torch.set_num_threads(work["threads"])
    lesson, context = ray.get(work["lesson"]), get_context()
    group = ProcessGroup(context.get_world_rank(), context.get_world_size(), lesson["seed"])
    return work["learn"](**lesson, team=group)
