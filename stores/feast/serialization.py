"""Feast's bytes made from arrays, without a Python loop over floats.

A serialised value with a packed float list is a constant prefix and the raw little-endian floats; a
serialised entity key of one join key is a constant prefix and the id. Both prefixes are taken from
Feast's own functions, once per batch. Other columns are few or repeat themselves.
"""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from stores import schema
from stores.errors import MismatchError
from stores.feast.feature_views import FeatureViewSpec

ByteMatrix = np.ndarray[Any, np.dtype[np.uint8]]


def entity_keys(ids: pa.Array, join_key: str) -> list[bytes]:
    """The serialised entity key (version 3) of every id. Raises MismatchError if Feast's own format differs."""
    if not len(ids):
        return []
    prefix = _entity_key(join_key, 0 if pa.types.is_integer(ids.type) else "")
    if pa.types.is_integer(ids.type):
        raw = ids.to_numpy().astype("<i8").view(np.uint8).reshape(-1, 8)
        keys = _prefixed(prefix[:-8], raw)
    else:
        head, length = prefix[:-4], struct.Struct("<I").pack
        keys = [head + length(len(text)) + text for text in (value.encode() for value in ids.to_pylist())]
    if keys[0] != _entity_key(join_key, ids[0].as_py()):
        raise MismatchError("this version of Feast serialises entity keys in another way", expected="feast 0.67")
    return keys


def feature_values(view: FeatureViewSpec, table: pa.Table, space_id: str) -> dict[str, list[bytes]]:
    """The serialised `Value` of every feature of a view, a list of rows for each, in the order of `view.features`."""
    found = {name: serialize_column(_whole(table, name)) for name in (*view.columns, schema.RELEASE_ID)}
    found[schema.SPACE_ID] = [_value(string_val=space_id)] * table.num_rows
    found[schema.ENCODED_AT] = serialize_column(_whole(table, schema.ENCODED_AT))
    return found


def serialize_column(column: pa.Array) -> list[bytes]:
    """The serialised `Value` of every row of a column. Raises MismatchError for a type that no view has."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float32() and not column.null_count:
        return float_lists(column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), kind.list_size))
    if pa.types.is_list(kind) and kind.value_type == pa.float32() and not column.null_count:
        return _serialize_lists(column)
    make = _VALUE_BUILDERS.get(_kind(kind))
    if make is None:
        raise MismatchError(f"no feature can have the type {kind}", expected=", ".join(sorted(_VALUE_BUILDERS)))
    if pa.types.is_timestamp(kind):
        column = column.cast(schema.TIMESTAMP_TYPE).cast(pa.int64())
    if pa.types.is_nested(kind):
        return [_value() if row is None else make(row) for row in column.to_pylist()]
    known = {row: _value() if row is None else make(row) for row in column.unique().to_pylist()}
    return [known[row] for row in column.to_pylist()]


def float_lists(matrix: np.ndarray[Any, np.dtype[np.float32]]) -> list[bytes]:
    """A serialised `Value` with a float list for every row of a (n, d) matrix."""
    rows, dim = matrix.shape
    raw = np.ascontiguousarray(matrix, dtype="<f4").view(np.uint8).reshape(rows, 4 * dim)
    return _prefixed(_float_head(dim), raw)


def _serialize_lists(column: pa.Array) -> list[bytes]:
    """The same for lists of any length: a slice of the raw floats for each row."""
    raw = column.flatten().to_numpy(zero_copy_only=False).astype("<f4").tobytes()
    ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False)) * 4
    begins = np.concatenate([[0], ends[:-1]])
    heads: dict[int, bytes] = {}
    found = []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        size = (end - begin) // 4
        head = heads.get(size) or heads.setdefault(size, _float_head(size))
        found.append(head + raw[begin:end])
    return found


def _prefixed(head: bytes, raw: ByteMatrix) -> list[bytes]:
    """Every row of a (n, width) matrix of bytes after the same head, as Python bytes, in one step of NumPy."""
    rows, width = raw.shape
    whole = np.empty((rows, len(head) + width), np.uint8)
    whole[:, : len(head)] = np.frombuffer(head, np.uint8)
    whole[:, len(head) :] = raw
    found: list[bytes] = whole.view(f"V{len(head) + width}").ravel().tolist()
    return found


def _float_head(size: int) -> bytes:
    from feast.protos.feast.types.Value_pb2 import FloatList

    sample = _value(float_list_val=FloatList(val=[0.0] * size))
    return sample[: len(sample) - 4 * size]


def _whole(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], type=column.type)


def _value(**content: Any) -> bytes:
    from feast.protos.feast.types.Value_pb2 import Value

    return bytes(Value(**content).SerializeToString())


def _list(field: str, message: str) -> Callable[[list[Any]], bytes]:
    def make(row: list[Any]) -> bytes:
        from feast.protos.feast.types import Value_pb2

        return _value(**{field: getattr(Value_pb2, message)(val=row)})

    return make


_VALUE_BUILDERS: dict[str, Callable[[Any], bytes]] = {
    "string": lambda value: _value(string_val=value),
    "int64": lambda value: _value(int64_val=value),
    "timestamp": lambda value: _value(unix_timestamp_val=value // 1_000_000),  # Feast keeps whole seconds
    "list<float>": _list("float_list_val", "FloatList"),
    "list<string>": _list("string_list_val", "StringList"),
    "list<int32>": _list("int32_list_val", "Int32List"),
    "list<int64>": _list("int64_list_val", "Int64List"),
}


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return f"list<{kind.value_type}>" if pa.types.is_nested(kind) else str(kind)


def feature_kind(kind: pa.DataType) -> str:
    """The name of a column's type in `views.json`. Raises MismatchError for a type that no view has."""
    name = _kind(kind)
    if name not in _VALUE_BUILDERS:
        raise MismatchError(f"no feature can have the type {kind}", expected=", ".join(sorted(_VALUE_BUILDERS)))
    return name


def _entity_key(join_key: str, value: int | str) -> bytes:
    from feast.infra.key_encoding_utils import serialize_entity_key

    return bytes(serialize_entity_key(entity_key(join_key, value), entity_key_serialization_version=3))


def entity_key(join_key: str, value: int | str) -> Any:
    """Feast's entity key message of one id."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    made = Value(int64_val=value) if isinstance(value, int) else Value(string_val=value)
    return EntityKey(join_keys=[join_key], entity_values=[made])
