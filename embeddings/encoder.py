"""The door through which a trained model enters the night: any class that fits `Encoder` will do."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embeddings.own_class import find_class
from stores.errors import ConfigError, EncoderError, SamespaceError

Vectors = npt.NDArray[np.float32]

PREFERENCES = pa.schema(
    [
        pa.field("genres", pa.list_(pa.string())),
        pa.field("genre_share", pa.list_(pa.float32())),
        pa.field("languages", pa.list_(pa.string())),
        pa.field("language_share", pa.list_(pa.float32())),
    ]
)
"""What `PreferenceEncoder.preferences` returns: every known value and its share of what comes next, best first;
shares sum to one. Both lists are empty where the catalogue has no such values."""


@runtime_checkable
class Encoder(Protocol):
    """A trained model.

    `model_id` names its weights; `dim` is the width of both kinds of vectors. A member's score for a
    title is the inner product of the two. What it returns must depend on nothing but its input.
    """

    model_id: str
    dim: int

    def encode_members(self, histories: pa.Table) -> Vectors:
        """Rows of `columns.history_schema` to (n, dim) float32, in the order of the rows."""
        ...

    def encode_titles(self, titles: pa.Table) -> Vectors:
        """Rows of `columns.catalogue_schema` to (m, dim) float32, in the order of the rows."""
        ...


@runtime_checkable
class CodeReader(Encoder, Protocol):
    """An encoder that takes the texts of histories as codes of a dictionary, as they are stored: quicker to read."""

    reads_codes: bool


@runtime_checkable
class PreferenceEncoder(Protocol):
    """An encoder that also says which genres and languages a member will play next."""

    def preferences(self, histories: pa.Table) -> pa.Table:
        """One row per history, in order, as `PREFERENCES`: values best first, beside their shares."""
        ...


@runtime_checkable
class ValueEncoder(Protocol):
    """An encoder that also gives metadata values vectors in the space of the titles."""

    def encode_genres(self) -> tuple[list[str], Vectors]:
        """The genres that it knows, by name, and their (g, dim) float32 vectors."""
        ...


def load(spec: str, model_dir: str) -> Encoder:
    """The encoder that `spec`, as "module:Class", loads from `model_dir` by its class method `load(path)`.

    A class without one is called without arguments: it knows where its model is. `load(path)` must read all that it
    needs: of a workspace on an object store the folder is a copy, which goes when the encoder is there.

    Raises ConfigError where `spec` names no such class, EncoderError where the class cannot load
    the model or the result is not an `Encoder`. Errors of our own tree pass through as they are.
    """
    kind = _resolve(spec)
    try:
        encoder = kind.load(model_dir) if hasattr(kind, "load") else kind()
    except SamespaceError:
        raise
    except Exception as error:
        raise EncoderError(
            f"the encoder cannot load its model: {error}", where=f"{spec}, {model_dir}", fix="check the model's folder"
        ) from error
    return _checked(encoder, spec)


def _resolve(spec: str) -> Any:
    kind = find_class(spec, "[encode] encoder")
    if not callable(kind) or not callable(getattr(kind, "load", kind)):
        raise ConfigError("this is no encoder class", where=spec, expected="a class, with or without load(path)")
    return kind


def _checked(encoder: Any, spec: str) -> Encoder:
    if not isinstance(encoder, Encoder):
        missing = [
            name for name in ("model_id", "dim", "encode_members", "encode_titles") if not hasattr(encoder, name)
        ]
        raise EncoderError("what load(path) returned is not an Encoder", where=spec, expected=f"it to have {missing}")
    if not isinstance(encoder.dim, int) or encoder.dim < 1:
        raise EncoderError(f"the encoder's dim is {encoder.dim!r}", where=spec, expected="a positive integer")
    if not isinstance(encoder.model_id, str) or not encoder.model_id:
        raise EncoderError(f"the encoder's model_id is {encoder.model_id!r}", where=spec, expected="a non-empty string")
    return encoder
