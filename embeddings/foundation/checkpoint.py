"""A trained model on disk: `<models>/<model_id>/`, every file covered by a hash.

```
weights.safetensors   parameters and the features of known titles
config.json           format, FoundationConfig, positions seen at once
vocabulary.json  titles.parquet
metrics.json          how well it did on its own held-out targets; not part of the id
hashes.json           SHA-256 of each of these, written last
```
"""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from safetensors.torch import load, save

from embeddings.foundation.config import FoundationConfig
from embeddings.foundation.finiteness import find_model_fault, find_weights_fault
from embeddings.foundation.model import FoundationModel
from embeddings.foundation.vocabulary import Vocabulary
from stores.errors import CorruptError, EncoderError, MismatchError, NotFoundError, TrainingError
from stores.files.filesystem import Storage, sha256

FORMAT_VERSION = 2
_FORMAT_WITHOUT_HEADS = 1
"""The format before the heads; such a model has none."""
_HASHES = "hashes.json"
_METRICS = "metrics.json"
_HASHED_FILES = ("weights.safetensors", "config.json", "vocabulary.json", "titles.parquet")


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that it takes to use it."""

    model: FoundationModel
    vocabulary: Vocabulary
    config: FoundationConfig


def save_checkpoint(checkpoint: Checkpoint, models: Storage, metrics: dict[str, Any]) -> str:
    """Save below the models folder and return the model id, a hash of weights, configuration and vocabulary.

    Raises TrainingError, and writes nothing, where the model has weights or vectors that are not finite, or one vector
    for all titles or members.
    """
    model = checkpoint.model
    require_sound(model)
    config = {"format": FORMAT_VERSION, "length": model.length, "config": checkpoint.config.model_dump(mode="json")}
    files = {
        "weights.safetensors": save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}),
        "config.json": json.dumps(config, indent=1, sort_keys=True).encode(),
        **checkpoint.vocabulary.files(),
        "metrics.json": json.dumps(metrics, indent=1).encode(),
    }
    hashes = {name: sha256(data) for name, data in files.items()}
    model_id = sha256("".join(hashes[name] for name in _HASHED_FILES).encode())[:16]
    folder = models.subfolder(model_id)
    for name, data in files.items():
        folder.write(name, data)
    folder.write(_HASHES, json.dumps(hashes, indent=1).encode())
    return model_id


def require_sound(model: FoundationModel, of: str = "the training") -> None:
    """Raise TrainingError, which names the weights, where a trained model can be of no use: see `find_model_fault`."""
    if fault := find_model_fault(model):
        raise TrainingError(
            f"{of} ended at a model that cannot be used: {fault}",
            where="training; no model was written",
            expected="finite weights, and vectors that differ",
            fix="lower train.training.learning_rate (tasks.learning_rate for tasks), or train with another --seed",
        )


def verify(path: str) -> str:
    """The id of the model in a folder, once it is known that a night can run it: `read`, and a sample of its vectors.

    Raises as `read`, and EncoderError where vectors are not finite or all alike.
    """
    trained, model_id = load_checkpoint(path)
    if fault := find_model_fault(trained.model):
        raise _unusable(fault, path)
    return model_id


def _unusable(fault: str, path: str) -> EncoderError:
    return EncoderError(
        f"the model cannot be used: {fault}",
        where=path,
        expected="finite weights, and vectors that differ",
        fix="samespace train makes another; a night runs the model that was trained last",
    )


def load_checkpoint(path: str) -> tuple[Checkpoint, str]:
    """The model in a folder, and its id.

    Raises NotFoundError where there is none, CorruptError naming a file that is not the one written,
    MismatchError for a format of another version, EncoderError naming weights that are not finite.
    """
    files = _files(Storage(path))
    settings = json.loads(files["config.json"])
    if settings["format"] == _FORMAT_WITHOUT_HEADS:
        settings["config"]["network"]["preferences"] = False
    elif settings["format"] != FORMAT_VERSION:
        raise MismatchError(
            f"the model has format {settings['format']}", where=path, expected=f"format {FORMAT_VERSION}"
        )
    try:
        config = FoundationConfig(**settings["config"])
    except ValidationError as error:
        raise CorruptError(f"the model's configuration cannot be used: {error}", where=f"{path}/config.json") from error
    vocabulary = Vocabulary.from_files(files)
    model = FoundationModel(config.network, vocabulary, settings["length"], config.training.temperature)
    weights = load(files["weights.safetensors"])
    if fault := find_weights_fault(weights.items()):
        raise _unusable(fault, path)
    model.load_state_dict(weights)
    model.eval()
    model_id = sha256("".join(sha256(files[name]) for name in _HASHED_FILES).encode())[:16]
    return Checkpoint(model, vocabulary, config), model_id


def _files(folder: Storage) -> dict[str, bytes]:
    if not folder.exists(_HASHES):
        raise NotFoundError(
            "no model here", where=folder.uri, expected=f"a folder with {_HASHES}", fix="samespace train"
        )
    hashes = read_hashes(folder, _HASHES, (*_HASHED_FILES, _METRICS))
    files = {name: folder.read(name) for name in hashes}
    for name, data in files.items():
        if sha256(data) != hashes[name]:
            raise CorruptError(
                f"{name} is not the file that was written: SHA-256 {sha256(data)[:12]}…",
                where=f"{folder.uri}/{name}",
                expected=f"{hashes[name][:12]}…",
                fix="restore the model's folder from a copy, or train again",
            )
    return files


def read_hashes(folder: Storage, path: str, names: tuple[str, ...]) -> dict[str, str]:
    """The SHA-256 of each of some files, as the file at `path` says.

    Raises CorruptError where it cannot be read, names other files (a flip in a name would leave a file unchecked), or
    one of them is not there.
    """
    trouble = {"where": f"{folder.uri}/{path}", "fix": "restore the model's folder from a copy, or train again"}
    try:
        found = json.loads(folder.read(path))
    except ValueError as error:
        raise CorruptError(f"{path} cannot be read: {error}", **trouble) from error
    if not isinstance(found, dict) or set(found) != set(names):
        raise CorruptError(f"{path} does not name the files of a model", expected=", ".join(names), **trouble)
    if missing := [name for name in names if not folder.exists(name)]:
        raise CorruptError(f"{', '.join(missing)} is missing", **trouble)
    return found
