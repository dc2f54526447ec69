"""Several processes that train one model: each learns from its part of a step's batch, all take the same step.

A process of one is the default, and does nothing here. Of several, each draws its own random numbers for a step from
the seed, the step and its rank, so a training that was killed goes on exactly.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

from embeddings.foundation.config import TrainingConfig
from embeddings.foundation.sequences import Batch
from stores.errors import MismatchError
from stores.files.filesystem import sha256


@dataclass(frozen=True)
class ProcessGroup:
    """The place of this process among `size` ones in torch's process group."""

    rank: int = 0
    size: int = 1
    seed: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process writes what the training leaves behind."""
        return self.rank == 0

    def local_config(self, config: TrainingConfig) -> TrainingConfig:
        """The configuration of one process: its part of the tokens of a step."""
        if self.size == 1:
            return config
        return config.model_copy(update={"batch_tokens": max(1, config.batch_tokens // self.size)})

    def shard(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Every `size`-th batch, from that of its rank on."""
        return itertools.islice(batches, self.rank, None, self.size)

    def seed_step(self, step: int) -> None:
        """Random numbers of its own for a step."""
        if self.size > 1:
            torch.manual_seed(int(sha256(f"{self.seed} {step} {self.rank}".encode())[:15], 16))

    def all_reduce_gradients(self, model: nn.Module) -> None:
        """The mean over all processes of the gradient of every weight that can move."""
        if self.size == 1:
            return
        moving = [weight for weight in model.parameters() if weight.requires_grad]
        grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in moving]
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        parts = torch.split(flat.div_(self.size), [weight.numel() for weight in moving])
        for weight, part in zip(moving, parts, strict=True):
            weight.grad = part.view_as(weight)

    def broadcast(self, found: Any) -> Any:
        """What the first process found: all go on from that."""
        if self.size == 1:
            return found
        told = [found]
        distributed.broadcast_object_list(told, src=0)
        return told[0]

    def check_equal_weights(self, model: nn.Module) -> None:
        """Raises MismatchError where the processes ended at different weights."""
        if self.size == 1:
            return
        data = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
        hashes: list[Any] = [None] * self.size
        distributed.all_gather_object(hashes, sha256(data))
        if len(set(hashes)) > 1:
            raise MismatchError(
                f"workers ended at different weights: {', '.join(value[:8] for value in hashes)}",
                expected="one model",
                fix="train on machines of one kind",
            )


SINGLE_PROCESS = ProcessGroup()
