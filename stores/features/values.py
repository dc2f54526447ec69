"""Feast's bytes made from arrays, without a Python loop over floats.

A serialised value with a packed float list is a constant prefix and the raw little-endian floats; a
serialised entity key of one join key is a constant prefix and the id. Both prefixes are taken from
Feast's own functions, once per batch.
"""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from stores import columns
from stores.errors import MismatchError
from stores.features.delta import vectors


def entity_keys(ids: pa.Array, join_key: str) -> list[bytes]:
    """The serialised entity key (version 3) of every id. Raises MismatchError if Feast's own format differs."""
    if not len(ids):
        return []
    plain = ids.to_pylist()
    prefix = _entity_key(join_key, 0 if pa.types.is_integer(ids.type) else "")
    if pa.types.is_integer(ids.type):
        raw, head = ids.to_numpy().astype("<i8").tobytes(), prefix[:-8]
        keys = [head + raw[at : at + 8] for at in range(0, len(raw), 8)]
    else:
        head, length = prefix[:-4], struct.Struct("<I").pack
        keys = [head + length(len(text)) + text for text in (value.encode() for value in plain)]
    if keys[0] != _entity_key(join_key, plain[0]):
        raise MismatchError("this version of Feast serialises entity keys in another way", expected="feast 0.67")
    return keys


def feature_values(table: pa.Table, space_id: str) -> dict[str, list[bytes]]:
    """The serialised `Value` of every feature, a list of rows for each, in the order of `views.FEATURES`."""
    return {
        columns.EMBEDDING: float_lists(vectors(table)),
        columns.RELEASE_ID: _each(table.column(columns.RELEASE_ID).to_pylist(), _text),
        columns.SPACE_ID: [_text(space_id)] * table.num_rows,
        columns.ENCODED_AT: _each(table.column(columns.ENCODED_AT).cast(pa.int64()).to_pylist(), _moment),
    }


def float_lists(matrix: np.ndarray[Any, np.dtype[np.float32]]) -> list[bytes]:
    """A serialised `Value` with a float list for every row of a (n, d) matrix."""
    from feast.protos.feast.types.Value_pb2 import FloatList, Value

    rows, dim = matrix.shape
    sample = Value(float_list_val=FloatList(val=[0.0] * dim)).SerializeToString()
    width = 4 * dim
    prefix, raw = sample[: len(sample) - width], np.ascontiguousarray(matrix, dtype="<f4").tobytes()
    return [prefix + raw[at : at + width] for at in range(0, rows * width, width)]


def _each(values: list[Any], serialise: Callable[[Any], bytes]) -> list[bytes]:
    """Serialise a column of few distinct values."""
    known = {value: serialise(value) for value in set(values)}
    return [known[value] for value in values]


def _text(value: str | None) -> bytes:
    from feast.protos.feast.types.Value_pb2 import Value

    return bytes((Value() if value is None else Value(string_val=value)).SerializeToString())


def _moment(value: int | None) -> bytes:
    """Feast keeps whole seconds."""
    from feast.protos.feast.types.Value_pb2 import Value

    return bytes((Value() if value is None else Value(unix_timestamp_val=value // 1_000_000)).SerializeToString())


def _entity_key(join_key: str, value: int | str) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key

    return bytes(serialize_entity_key(entity_key(join_key, value), entity_key_serialization_version=3))


def entity_key(join_key: str, value: int | str) -> Any:
    """Feast's entity key message of one id."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    made = Value(int64_val=value) if isinstance(value, int) else Value(string_val=value)
    return EntityKey(join_keys=[join_key], entity_values=[made])
