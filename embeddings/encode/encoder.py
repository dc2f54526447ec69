"""The `Encoder` protocol, loading an encoder by name, and its output as float32 rows.

Converted are float64, float16 and integers; read-only and strided arrays; torch tensors of any float type, with a
gradient or on a GPU; lists of numbers, rows or tensors; object arrays of numbers or rows; Arrow arrays. A number that
float32 cannot hold and a masked entry become what is not finite, which refuses the row. Complex numbers, booleans,
texts, times, None and rows of different lengths are refused.
"""

import sys
from inspect import signature
from numbers import Integral
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embeddings.encode.class_loading import find_class
from stores.errors import ConfigError, EncoderError, SamespaceError

Vectors = npt.NDArray[np.float32]
UNUSABLE_OUTPUT = "the encoder returned"
"""How the reason begins where an output has another shape or type than it must have."""


def to_float32(output: Any) -> Vectors:
    """A float32 array of the shape of what an encoder returned; it may share memory with it.

    Raises TypeError where the entries are no real numbers, ValueError where the rows have different lengths.
    """
    array = np.asarray(_plain(output))
    if array.dtype == object:  # of numbers or of whole rows
        array = np.array([_plain(row) for row in array.tolist()]) if array.ndim else array
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{UNUSABLE_OUTPUT} entries of type {array.dtype}, expected float32")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and its row is refused
        return array.astype(np.float32, copy=False)


def _plain(output: Any) -> Any:
    """What NumPy can read: tensors without gradient on the processor, masked entries as NaN."""
    torch = sys.modules.get("torch")  # an encoder that returns tensors has loaded it
    if isinstance(output, list | tuple):
        return [_plain(row) for row in output] if torch and _any_tensor(torch, output) else output
    if torch and isinstance(output, torch.Tensor):
        output = output.detach().cpu()
        return (output.float() if output.is_floating_point() else output).numpy()
    if isinstance(output, np.ma.MaskedArray):
        return np.ma.filled(output.astype(np.float64), np.nan)
    return output


def _any_tensor(torch: Any, rows: list[Any] | tuple[Any, ...]) -> bool:
    return any(isinstance(row, torch.Tensor) for row in rows)


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
    title is the inner product of the two. What it returns must depend on nothing but its input: a row must get the
    same vector whatever else is in the table and however often it is asked (`probe` looks at both). Other types of
    arrays than float32 are converted (`encoder_output`).
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
class DictionaryEncoder(Encoder, Protocol):
    """An encoder that takes the texts of histories as codes of a dictionary, as they are stored: quicker to read."""

    accepts_dictionary_encoded: bool


@runtime_checkable
class CatalogueReader(Protocol):
    """An encoder that can say of a whole catalogue that it is not what it was trained with."""

    def catalogue_notes(self, catalogue: pa.Table) -> list[str]:
        """What the catalogue lacks, as sentences.

        Raises MismatchError where titles of it would be encoded without what the model was trained with.
        """
        ...


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


def load(spec: str, model_dir: str, device: str = "cpu") -> Encoder:
    """The encoder that `spec`, as "module:Class", loads from `model_dir` by its class method `load(path)`.

    A class without one is called without arguments: it knows where its model is. `load(path)` must read all that it
    needs: of a workspace on an object store the folder is a copy, which goes when the encoder is there. Where the
    method, or the class without one, has an argument `device`, it gets "cpu" or "cuda".

    Raises ConfigError where `spec` names no such class, EncoderError where the class cannot load
    the model or the result is not an `Encoder`. Errors of our own tree pass through as they are.
    """
    kind = _import_class(spec)
    try:
        given = {"device": device} if _takes_device(kind) else {}
        encoder = kind.load(model_dir, **given) if hasattr(kind, "load") else kind(**given)
    except SamespaceError:
        raise
    except Exception as error:
        raise EncoderError(
            f"the encoder cannot load its model: {error}", where=f"{spec}, {model_dir}", fix="check the model's folder"
        ) from error
    return _check_protocol(encoder, spec)


def takes_device(spec: str) -> bool:
    """Whether the class that `spec` names is given a device when it is loaded. Raises ConfigError as `load`."""
    return _takes_device(_import_class(spec))


def _takes_device(kind: Any) -> bool:
    try:
        return "device" in signature(getattr(kind, "load", kind)).parameters
    except (TypeError, ValueError):  # made by C code that does not say
        return False


def _import_class(spec: str) -> Any:
    kind = find_class(spec, "[encode] encoder")
    if not callable(kind) or not callable(getattr(kind, "load", kind)):
        raise ConfigError("this is no encoder class", where=spec, expected="a class, with or without load(path)")
    return kind


def _check_protocol(encoder: Any, spec: str) -> Encoder:
    if not isinstance(encoder, Encoder):
        missing = [
            name for name in ("model_id", "dim", "encode_members", "encode_titles") if not hasattr(encoder, name)
        ]
        raise EncoderError("what load(path) returned is not an Encoder", where=spec, expected=f"it to have {missing}")
    if not isinstance(encoder.dim, Integral) or isinstance(encoder.dim, bool) or encoder.dim < 1:
        raise EncoderError(f"the encoder's dim is {encoder.dim!r}", where=spec, expected="a positive integer")
    if not isinstance(encoder.model_id, str) or not encoder.model_id:
        raise EncoderError(f"the encoder's model_id is {encoder.model_id!r}", where=spec, expected="a non-empty string")
    return encoder
