"""Checks on vectors as they come in: two-dimensional, of the right width, finite."""

from typing import Any

import numpy as np
import numpy.typing as npt

from stores.errors import MismatchError, UsageError

Vectors = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def as_vectors(values: Any, what: str, width: int | None = None) -> Vectors:
    """`values` as a contiguous float32 array (n, d).

    `what` names the rows in messages ("vector", "query"). Raises UsageError for another shape, for anything but real
    numbers (complex, text, truth, objects), and for a number that is not finite in float32, with its position;
    MismatchError for a width other than `width`.
    """
    array = _float32(values, what)
    if array.ndim != 2 or array.shape[1] < 1:
        raise UsageError(f"the {what} array has shape {array.shape}", expected="two dimensions, one row each")
    if width is not None and array.shape[1] != width:
        raise MismatchError(
            f"a {what} has {array.shape[1]} dimensions, the index has {width}",
            fix="take both from one space and one release",
        )
    refuse_non_finite(array, what)
    return array


def _float32(values: Any, what: str) -> Vectors:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the {what} array does not hold numbers: {error}", expected="an array (n, d)") from error
    if array.dtype.kind not in "iuf" and array.size:  # NumPy would read text, truth and complex numbers as reals
        raise UsageError(
            f"the {what} array does not hold numbers: it is {array.dtype} of shape {array.shape}",
            expected="real numbers in an array (n, d), for example float32",
        )
    with np.errstate(over="ignore"):  # what overflows becomes infinite and is refused by position
        return np.require(array.astype(np.float32, copy=False), requirements=["C"]) if array.ndim else array


def refuse_non_finite(array: Vectors, what: str) -> None:
    """Raise UsageError naming the first row and column that hold NaN or an infinity, and how many rows do."""
    finite = np.isfinite(array)
    if finite.all():
        return
    bad = np.flatnonzero(~finite.all(axis=1))
    row = int(bad[0])
    column = int(np.flatnonzero(~finite[row])[0])
    raise UsageError(
        f"{what} {row} is not finite: {array[row, column]} in column {column}",
        where=f"{len(bad)} of {len(array)} rows are not finite",
        expected="finite float32 numbers",
    )


def lengths(array: Vectors) -> npt.NDArray[np.float64]:
    """Euclidean length of each row (n,), summed in float64 so that no finite row overflows or vanishes."""
    squares: npt.NDArray[np.float64] = np.einsum("ij,ij->i", array, array, dtype=np.float64)
    return np.sqrt(squares)


def unit(array: Vectors) -> Vectors:
    """Rows at unit length; a zero row stays zero."""
    length = lengths(array)
    length[length == 0] = 1
    return (array / length[:, None]).astype(np.float32)
