"""Settings of a training of several tasks; apart from the code, so that reading a configuration does not load torch."""

from typing import Literal

from pydantic import Field

from stores.settings import Settings

TaskName = Literal["next_title", "trailers", "plays", "thumbs", "next_genre", "completion", "co_members", "next_id"]


class TasksConfig(Settings):
    """Which tasks, on which experts, for how long."""

    names: tuple[TaskName, ...] = Field(
        default=("next_title", "next_genre", "completion", "co_members", "next_id"), min_length=1
    )
    experts: Literal["shared", "mixture"] = Field(
        default="mixture", description="one for all tasks; or also one for each kind of task, and for each task"
    )
    rank: int = Field(default=8, ge=1, description="of the change that an expert makes to a matrix")
    steps_per_task: int = Field(default=120, ge=1, description="of the whole training, which is theirs together")
    scheduled: bool = Field(default=True, description="turns follow how far each task has converged; else all alike")
    rounds: int = Field(default=3, ge=1, description="times that convergence is measured and turns are dealt anew")
    warm_rounds: int = Field(default=1, ge=0, description="of these at the beginning, in which all tasks are alike")
    questions: int = Field(default=200, ge=1, description="held out, at most: each round asks every task all of them")
    window: int = Field(default=32, ge=1, description="newest events that are read before such a question, at most")
    least_share: float = Field(default=0.3, ge=0, le=1, description="of an even share, that no task falls below")
    merge: bool = Field(default=False, description="each task keeps several rounds, mixed by validation; else the end")
    learning_rate: float = Field(default=2e-3, gt=0)
