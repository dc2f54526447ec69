"""Second moments of one side: all that stage 1 needs to know about millions of rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from stores.errors import AlignmentError, AlignmentInputError, CorruptError, MismatchError, NotFoundError

Matrix = NDArray[np.float64]
Rows = NDArray[Any]
"""Rows of vectors, (n, e), float32 or float64; anything else that NumPy can read as float64."""

ROWS_PER_BLOCK = 4096
"""Rows taken at once: 2 MB of float64 at width 64, so memory does not depend on the number of rows."""


@dataclass(frozen=True, eq=False)
class Gram:
    """`moment` = Σ wᵢ xᵢᵀxᵢ, (e, e) float64, and `count` = Σ wᵢ, the weighted number of rows; `weighted`: had they any?

    Grams of disjoint sets of rows add up; merging in the same order gives the same bits.
    """

    moment: Matrix
    count: float
    weighted: bool = False

    @classmethod
    def zero(cls, dim: int) -> "Gram":
        """The Gram of no rows of width `dim`."""
        return cls(np.zeros((dim, dim)), 0.0)

    @classmethod
    def of(cls, x: Rows, weights: Rows | None = None) -> "Gram":
        """The Gram of rows `x` (n, e), accumulated in float64 block by block.

        `weights` (n,), not negative: 2 is the row twice, 0 is the row absent. Raises AlignmentError where a row that
        counts is not finite, by position, and AlignmentInputError where an argument has another kind or shape.
        """
        x = as_rows(x)
        positions, counts = (None, None) if weights is None else _positive_weights(x, weights)
        rows = len(x) if positions is None else len(positions)
        total, wide = np.zeros((x.shape[1], x.shape[1])), np.empty((min(ROWS_PER_BLOCK, rows), x.shape[1]))
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, rows, ROWS_PER_BLOCK):
                part = slice(start, min(start + ROWS_PER_BLOCK, rows))
                block = wide[: part.stop - start]  # of one buffer: fresh ones cost more page faults than arithmetic
                block[:] = x[part if positions is None else positions[part]]
                if counts is not None:
                    block *= np.sqrt(counts[part, None])
                total += block.T @ block
        if not np.isfinite(total).all():
            _raise_overflow(x, positions)
        return cls(total, float(rows if counts is None else counts.sum()), weights is not None)

    @property
    def dim(self) -> int:
        """The width e of the rows."""
        return len(self.moment)

    @property
    def mean(self) -> Matrix:
        """The second moment per row, (e, e). Raises AlignmentError where there are no rows."""
        if not self.count > 0:
            raise AlignmentError("there are no rows to align", expected="at least one row with a weight above 0")
        return self.moment / self.count

    def __add__(self, other: "Gram") -> "Gram":
        self._same_width(other)
        return Gram(self.moment + other.moment, self.count + other.count, self.weighted or other.weighted)

    def __sub__(self, other: "Gram") -> "Gram":
        """Take out rows that were put in before."""
        self._same_width(other)
        return Gram(self.moment - other.moment, self.count - other.count, self.weighted or other.weighted)

    def _same_width(self, other: "Gram") -> None:
        require(other, Gram, "what is added to or taken from a Gram")
        if self.dim != other.dim:
            raise MismatchError(f"Grams of width {self.dim} and {other.dim} cannot be merged")

    def save(self, path: str | Path) -> None:
        """Write the fields to a safetensors file of 8·(e² + 1) + 1 bytes and a header."""
        facts = {"count": np.array([self.count]), "weighted": np.array([self.weighted])}
        Path(path).write_bytes(save({"moment": np.ascontiguousarray(self.moment), **facts}))

    @classmethod
    def load(cls, path: str | Path) -> "Gram":
        """Read what `save` wrote, bit for bit. Raises NotFoundError, and CorruptError where it is something else."""
        if not Path(path).exists():
            raise NotFoundError("there is no saved Gram", where=str(path))
        try:
            fields = load(Path(path).read_bytes())
            moment, count = np.asarray(fields["moment"]), float(fields["count"][0])
            weighted = bool(fields["weighted"][0])
        except (SafetensorError, KeyError, IndexError, TypeError, ValueError) as error:
            raise CorruptError(f"not a saved Gram: {error}", where=str(path)) from error
        square = moment.dtype == np.float64 and moment.ndim == 2 and moment.shape[0] == moment.shape[1]
        if not square or not np.isfinite(moment).all() or not np.isfinite(count):
            given = f"a Gram of {moment.dtype} of shape {moment.shape} for {count} rows"
            raise CorruptError(given, where=str(path), expected="a square matrix of finite float64")
        return cls(moment, count, weighted)


def as_rows(x: Rows, what: str = "vectors") -> Rows:
    """`x` as a two-dimensional array of float32 or float64; `what` names the argument in messages.

    Raises AlignmentInputError for another shape and for anything but real numbers: complex, text, truth, objects.
    """
    x = _numbers(x, what)
    if x.ndim != 2 or x.shape[1] == 0:
        raise AlignmentInputError(f"{what} have the shape {x.shape}", expected="(rows, dimensions)")
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)


def as_weights(weights: Rows | None, count: int) -> Matrix:
    """Weights as float64 (count,); `None` means equal. Raises AlignmentInputError where they cannot be weights."""
    if weights is None:
        return np.ones(count)
    weights = _numbers(weights, "weights").astype(np.float64)
    if weights.shape != (count,):
        raise AlignmentInputError(f"{count} rows have weights of the shape {weights.shape}", expected=f"({count},)")
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise AlignmentInputError(f"weights at positions {format_positions(bad)} are negative or not finite")
    return weights


def require(value: object, kind: type, name: str) -> None:
    """Raise AlignmentInputError where an argument is not an instance of a class."""
    if not isinstance(value, kind):
        given = f"{name} is {type(value).__name__} {value!r}"
        raise AlignmentInputError(given[:120], expected=f"an instance of {kind.__name__}")


def _numbers(x: Any, what: str) -> NDArray[Any]:
    """`x` as an array of real numbers. NumPy alone would drop imaginary parts and read text and truth as numbers."""
    try:
        array = np.asarray(x)
    except (TypeError, ValueError) as error:
        raise AlignmentInputError(f"{what} are no array: {error}", expected="real numbers") from error
    if array.dtype.kind not in "iuf":
        given = f"{what} are {array.dtype} of shape {array.shape}"
        raise AlignmentInputError(given, expected="real numbers, for example float32")
    return array


def refuse_non_finite(x: Rows, what: str = "vectors") -> None:
    """Raise AlignmentError that names, by position, the rows of `x` that hold NaN or infinity."""
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise AlignmentError(
            f"{what} at positions {format_positions(bad)} are not finite",
            expected="finite numbers",
            fix="send these rows to the dead letter before aligning",
        )


def format_positions(positions: NDArray[np.intp]) -> str:
    """The first ten positions, and how many there are in all."""
    shown = ", ".join(str(position) for position in positions[:10])
    return shown if len(positions) <= 10 else f"{shown}, … ({len(positions)} in all)"


def _positive_weights(x: Rows, weights: Rows) -> tuple[NDArray[np.intp] | None, Matrix | None]:
    """Positions of the rows whose weight is above 0, and those weights; None, None where all weigh 1."""
    weights = as_weights(weights, len(x))
    if (weights == 1).all():
        return None, None
    positions = np.flatnonzero(weights)
    return positions, weights[positions]


def _raise_overflow(x: Rows, positions: NDArray[np.intp] | None) -> None:
    """Name the rows that made a Gram infinite; finite ones do so where their squares overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        bad = np.flatnonzero(~np.isfinite(np.einsum("ij,ij->i", x, x, dtype=np.float64)))
    bad = bad if positions is None else np.intersect1d(bad, positions)
    raise AlignmentError(
        f"rows at positions {format_positions(bad)} are not finite",
        expected="finite numbers whose squares are finite",
        fix="send these rows to the dead letter before aligning",
    )
