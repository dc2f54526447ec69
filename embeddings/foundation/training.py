"""Training: learn within a budget of steps, keep the averaged weights that predict the held-out titles best."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from embeddings.foundation import checkpoint
from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.course import Course, Progress
from embeddings.foundation.lesson import Lesson
from embeddings.foundation.resume import Unfinished
from embeddings.foundation.team import ALONE, Team
from stores.storage import Storage

__all__ = ["Progress", "TrainedModel", "train"]


@dataclass(frozen=True)
class TrainedModel:
    """A saved model: its id, its folder, and how well it did on its own held-out targets."""

    model_id: str
    path: str
    metrics: dict[str, Any]


def train(
    histories: pa.Table,
    catalogue: pa.Table,
    config: FoundationConfig,
    seed: int,
    out: str | Path,
    progress: Callable[[Progress], None] | None = None,
    parent: str | Path | None = None,
) -> TrainedModel:
    """Train on histories (`columns.history_schema`) and a catalogue; save below the models folder `out`.

    With the folder of an earlier model as `parent` it is a warm start: `config.training.warm_share` of the steps.
    The same input and seed give the same weights on one machine, also where a training was killed and is
    called again. Threads are torch's own (`OMP_NUM_THREADS`). Raises ContractError where there is nothing to learn
    from, and as `checkpoint.read`. With `config.workers` above one a Ray of that many processes does it, untold of
    progress.
    """
    models, before = Storage(str(out)), str(parent) if parent is not None else None
    if config.workers > 1:
        from embeddings.foundation.distributed import train_on_workers

        return train_on_workers(histories, catalogue, config, seed, models, before)
    return learn(histories, catalogue, config, seed, models, progress, before)


def learn(
    histories: pa.Table,
    catalogue: pa.Table,
    config: FoundationConfig,
    seed: int,
    models: Storage,
    progress: Callable[[Progress], None] | None = None,
    parent: str | None = None,
    team: Team = ALONE,
) -> TrainedModel:
    """What `train` does, in this process: one of a team, or alone. Raises MismatchError where a team disagrees."""
    before, parent_id = checkpoint.read(parent) if parent is not None else (None, None)
    lesson = Lesson.of(histories, catalogue, config, seed)
    unfinished = Unfinished.of(models, lesson, config, seed, before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        course = Course(lesson, config, before, team)
        course.run(seed, progress or (lambda _: None), unfinished)
    trained = Checkpoint(course.best(), lesson.vocabulary, config)
    team.check(trained.model)
    metrics = {
        **course.report(),
        "trained_until": newest(histories),
        "parent": parent_id,
        "baselines": lesson.baselines(),
    }
    model_id = team.agreed(checkpoint.write(trained, models, metrics) if team.leads else None)
    if team.leads:
        unfinished.remove()
    return TrainedModel(model_id, models.below(model_id).uri, metrics)


def newest(histories: pa.Table) -> str:
    """The time of the last event, as ISO 8601."""
    return str(pc.max(pc.list_flatten(histories["last_time"])).as_py().isoformat())
