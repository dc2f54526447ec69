"""A training that was killed goes on from its last validation and ends at the same weights.

Below the models folder `unfinished-<hash>.safetensors` holds weights, optimiser, the state of torch's random numbers
and where the training stood; the hash names configuration, seed, data and parent, so nothing else goes on from it.
The batches are drawn again from their seed.
"""

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.training_data import TrainingData
from stores.files.filesystem import Storage

Tensors = dict[str, torch.Tensor]
_METADATA_KEY = "facts"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainStateFile:
    """The place where one training keeps its state until it is done."""

    models: Storage
    name: str

    @classmethod
    def of(
        cls, models: Storage, lesson: TrainingData, config: FoundationConfig, seed: int, parent: Checkpoint | None
    ) -> "TrainStateFile":
        """The place of the training of a lesson."""
        digest = hashlib.sha256(f"{config.model_dump_json()} {seed}".encode())
        tokens, queries = lesson.tokens, lesson.queries
        for array in (
            tokens.starts,
            tokens.targets,
            tokens.codes,
            tokens.actions,
            tokens.times,
            tokens.weights,
            queries.targets,
        ):
            digest.update(array.tobytes())
        for data in lesson.vocabulary.files().values():
            digest.update(data)
        for tensor in parent.model.state_dict().values() if parent is not None else ():
            digest.update(tensor.numpy().tobytes())
        return cls(models, f"unfinished-{digest.hexdigest()[:16]}.safetensors")

    def save(self, tensors: Tensors, facts: dict[str, Any]) -> None:
        """Replace the state; a reader finds the old one or the new one, never half of it."""
        told = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
        kept = {**{name: tensor.contiguous() for name, tensor in tensors.items()}, _METADATA_KEY: told}
        self.models.write(self.name, save(kept))

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """The state; None where the training has not got so far, or where what was kept cannot be read."""
        if not self.models.exists(self.name):
            return None
        try:
            tensors = load(self.models.read(self.name))
            return tensors, json.loads(bytes(tensors.pop(_METADATA_KEY).tolist()))
        except (SafetensorError, KeyError, ValueError) as error:
            _LOG.warning(
                "the state of an interrupted training cannot be read, it begins anew: %s: %s", self.name, error
            )
            return None

    def remove(self) -> None:
        """Forget the state: the training is done."""
        self.models.delete(self.name)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> Tensors:
    """The moments of an optimiser by parameter and name."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": tensor for number, found in state.items() for name, tensor in found.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Tensors) -> None:
    """The inverse of `optimiser_tensors`."""
    state: dict[int, Tensors] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".")
        state.setdefault(int(number), {})[name] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def take_prefix(tensors: Tensors, prefix: str) -> Tensors:
    """The tensors below a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def join_prefixed(**parts: Tensors) -> Tensors:
    """Several groups of tensors as one, each name below that of its group."""
    return {f"{group}/{name}": tensor for group, tensors in parts.items() for name, tensor in tensors.items()}
