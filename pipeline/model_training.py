"""From a lake to a model in the workspace: what `samespace train` does, and a first night without a model."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from embeddings.encode.config import FOUNDATION_ENCODER
from embeddings.encode.job import load_model
from embeddings.foundation import checkpoint, fine_tuning, trainer
from embeddings.foundation.tasks import trainer as tasks
from embeddings.histories.job import read_histories
from embeddings.histories.propensity import with_propensity
from pipeline.config import Config
from pipeline.console import ConsoleReporter
from pipeline.ray_cluster import ray_cluster
from pipeline.run_plan import require_same_ids
from stores.errors import EncoderError, NotFoundError
from stores.lake.contract import Lake
from stores.progress import Progress
from stores.publishing.suppression_list import read_suppression_list
from stores.releases.workspace import Workspace
from stores.runtime import run_with_timeout


def train_model(
    config: Config,
    workspace: Workspace,
    as_of: datetime | None,
    seed: int,
    tell: ConsoleReporter,
    parent: str | None = None,
) -> trainer.TrainedModel:
    """Train on the lake as of a moment (default: now) and make the model the one that the next night runs.

    With the id of a model of the workspace as `parent` the training goes on from it, in fewer steps.
    Raises NotFoundError where there is no such model, TrainingError where the training diverges, EncoderError where
    what was written cannot be used; the model of the next night is then the one that it was.
    """
    before = _folder_of(workspace, parent) if parent else None
    histories, catalogue = _read_training_data(config, workspace, as_of, tell)
    several = ray_cluster(config.ray) if config.train.workers > 1 else nullcontext()
    with several, Progress("train", 1, "steps") as progress:
        model = trainer.train(
            histories, catalogue, config.train, seed, workspace.models.uri, format_progress(progress), before
        )
    checkpoint.verify(model.path)  # as it lies there: what a night would read
    workspace.set_next_model(model.model_id)
    return model


def fine_tune_model(
    config: Config,
    workspace: Workspace,
    as_of: datetime | None,
    seed: int,
    tell: ConsoleReporter,
    parent: str | None = None,
) -> trainer.TrainedModel:
    """Let a model of the workspace learn the lake of an application, as `[train.fine_tune]` says.

    `parent` is the model's id; without one it is the model that the night runs, and the night goes on running that.
    Raises NotFoundError where there is no such model.
    """
    before = _folder_of(workspace, parent or workspace.next_model() or "")
    histories, catalogue = _read_training_data(config, workspace, as_of, tell)
    with Progress("train", 1, "steps") as progress:
        return fine_tuning.fine_tune(
            histories, catalogue, config.train, seed, workspace.models, before, format_progress(progress)
        )


def train_tasks(
    config: Config,
    workspace: Workspace,
    as_of: datetime | None,
    seed: int,
    tell: ConsoleReporter,
    parent: str | None = None,
) -> dict[str, Any]:
    """Teach a model of the workspace the tasks of `[tasks]`; each gets an ordinary model of its own there.

    `parent` is the model's id; without one it is the model that the night runs, and the night goes on running that.
    "models" are the ids by task, the rest is the report of `tasks.training`. Raises NotFoundError where there is no
    such model, and as `tasks.training.train_tasks`.
    """
    before, _ = checkpoint.load_checkpoint(_folder_of(workspace, parent or workspace.next_model() or ""))
    histories, catalogue = _read_training_data(config, workspace, as_of, tell)
    trained = tasks.train_tasks(before, histories, catalogue, config.train, config.tasks, seed)
    return {"models": trained.save(before, workspace.models), **trained.report}


def _read_training_data(
    config: Config, workspace: Workspace, as_of: datetime | None, tell: ConsoleReporter
) -> tuple[pa.Table, pa.Table]:
    """Histories and catalogue of the lake as of a moment, without the members who were erased."""
    lake, erased, moment = Lake.open(config.lake), read_suppression_list(workspace.storage), as_of or datetime.now(UTC)
    require_same_ids(lake, workspace, config.publish)
    histories, catalogue = read_histories(lake, moment, config.histories, erased)
    histories = with_propensities(histories, lake, config, moment)
    tell.line(f"training on {histories.num_rows:,} members and {catalogue.num_rows:,} titles")
    return histories, catalogue


def with_propensities(histories: pa.Table, lake: Lake, config: Config, as_of: datetime) -> pa.Table:
    """The histories with what was shown beside them, where targets are to be weighed by it."""
    if not config.train.training.max_ips_weight:
        return histories
    return with_propensity(histories, lake, as_of, config.histories.scan)


def _folder_of(workspace: Workspace, model_id: str) -> str:
    if model_id not in workspace.models.folders():
        raise NotFoundError(
            f"there is no model {model_id}".strip(),
            where=workspace.models.uri,
            expected=f"one of {', '.join(workspace.models.folders()) or 'none: the workspace has no model'}",
            fix="samespace train without --from begins anew",
        )
    return workspace.models.subfolder(model_id).uri


def model_for_tonight(config: Config, workspace: Workspace, as_of: datetime | None, tell: ConsoleReporter) -> str:
    """The id of the model that the night runs; where there is none of ours, one is trained first.

    An encoder of one's own is asked for its id. Raises EncoderError where it cannot be loaded.
    """
    kept = workspace.next_model()
    if config.encode.encoder != FOUNDATION_ENCODER or config.encode.model:
        return _own_model_id(config, workspace, kept)
    if kept:
        return kept
    Lake.open(config.lake)  # a lake that is not there is told before anything begins
    tell.line("no model yet: training one first")
    return train_model(config, workspace, as_of, seed=0, tell=tell).model_id


def _own_model_id(config: Config, workspace: Workspace, kept: str | None) -> str:
    """What an encoder that is not ours calls its model; the workers load it again."""
    limit = config.encode.load_timeout_s
    try:
        return run_with_timeout(limit, load_model, config.encode, workspace, kept).model_id
    except TimeoutError as error:
        raise EncoderError(
            f"the encoder has not loaded its model after {limit:g} s",
            where=config.encode.encoder,
            expected="encode.load_timeout_s",
            fix="try the encoder alone; raise the limit where it needs longer",
        ) from error


def format_progress(progress: Progress) -> Callable[[trainer.TrainingProgress], None]:
    """What a training tells, as a line of progress."""

    def show(state: trainer.TrainingProgress) -> None:
        progress.total = state.steps
        found = "" if state.ndcg != state.ndcg else f", held-out ndcg@10 {state.ndcg:.4f}"
        progress.advance(state.step - progress.done, f"loss {state.loss:.3f}{found}")

    return show
