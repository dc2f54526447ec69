"""Which rows of a column changed: bit by bit, without a Python loop over values."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Flags = npt.NDArray[np.bool_]


def changed_rows(old: pa.Array, new: pa.Array) -> Flags:
    """Whether row i differs, (n,) bool, for two columns of n rows; lists may have any length, null equals null.

    Floats are the same if their bits are: −0.0 differs from 0.0, and a NaN equals itself.
    """
    if old.type.equals(new.type) and pa.types.is_fixed_size_list(new.type):
        return _fixed(old, new)
    if pa.types.is_list(new.type) or pa.types.is_fixed_size_list(new.type):
        return _lists(old, new)
    same = pc.equal(_bits(old), _bits(new)).fill_null(False).to_numpy(zero_copy_only=False)
    return np.asarray(~(same | _both_null(old, new)))


def _fixed(old: pa.Array, new: pa.Array) -> Flags:
    """Every row has the same number of values: one comparison of two matrices."""
    width = new.type.list_size
    before, after = (_bits(one.flatten()).to_numpy(zero_copy_only=False).reshape(-1, width) for one in (old, new))
    return np.asarray((before != after).any(axis=1))


def _lists(old: pa.Array, new: pa.Array) -> Flags:
    lengths = [pc.list_value_length(one).fill_null(-1).to_numpy(zero_copy_only=False) for one in (old, new)]
    changed = np.asarray(lengths[0] != lengths[1])
    rows = np.flatnonzero(~changed & (lengths[1] > 0))
    if len(rows):
        before, after = (one.take(pa.array(rows)).flatten() for one in (old, new))
        values = changed_rows(before, after)
        begins = np.concatenate([[0], np.cumsum(lengths[1][rows])[:-1]]).astype(np.int64)
        changed[rows] = np.logical_or.reduceat(values, begins)
    return changed


def _bits(values: pa.Array) -> pa.Array:
    kinds: list[tuple[Any, Any]] = [(pa.float32(), pa.uint32()), (pa.float64(), pa.uint64())]
    for kind, bits in kinds:
        if values.type.equals(kind):
            return values.view(bits)
    return values


def _both_null(old: pa.Array, new: pa.Array) -> Flags:
    nulls = pc.and_(pc.is_null(old), pc.is_null(new))
    return np.asarray(nulls.to_numpy(zero_copy_only=False))
