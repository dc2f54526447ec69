"""Products of queries and titles, tile by tile, exact or rough, as long as they say how rough.

Tile j is every T-th title from the j-th on, so that each is a fair sample of all. Plain float32 products are made
here; quicker and rougher ones come from whoever has the instructions for them (`embeddings.products`).

Scores come as codes, numbers that order like them. A float32 is its own code. The code of a bfloat16 is the whole
number of its bits, which `settle` brings into order where scores are negative; the others are in order already.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeGuard

import numpy as np
import numpy.typing as npt

from retrieval.vectors import Mask, Scores, Vectors, lengths

Floats = npt.NDArray[np.float64]
Bits = npt.NDArray[np.int16]
Codes = npt.NDArray[np.float32] | Bits
_ROUNDOFF = float(np.finfo(np.float32).eps) / 2
_LARGEST = float(np.finfo(np.float32).max)
_INFINITE = np.int16(0xFF80 - 0x10000)
"""The bits of minus infinity."""
_LOWEST = np.int16(_INFINITE ^ np.int16(0x7FFF))
"""Those of minus infinity, settled."""


class Asked(Protocol):
    """Some queries on their way through the tiles."""

    @property
    def error(self) -> Floats:
        """How far a score may be from the inner product (q,), before it is rounded to the product's grain."""

    def scores(self, tile: int) -> Codes:
        """Scores (q, w) of one tile, not settled, which may be written over; the next call writes over them."""


class Product(Protocol):
    """Titles cut into tiles. Safe to share by threads."""

    @property
    def tiles(self) -> int:
        """Into how many tiles the titles are cut."""

    @property
    def grain(self) -> float:
        """Scores are rounded by at most this share of themselves."""

    def ask(self, queries: Vectors) -> Asked:
        """The queries (q, d) made ready."""


Rough = Callable[[Vectors, int], Product]
"""Makes a product of two-byte scores, of vectors (n, d) in so many tiles."""


def is_bits(codes: Codes) -> TypeGuard[Bits]:
    """Whether codes are bits of bfloat16."""
    return codes.dtype == np.int16


def _turned(codes: Bits) -> Bits:
    """Which bits settling turns round: all but the first where that is set."""
    return (codes >> 15) & np.int16(0x7FFF)


def forbidden(codes: Codes) -> np.float32 | np.int16:
    """What stands for −inf before codes are settled."""
    return _INFINITE if is_bits(codes) else np.float32(-np.inf)


def forbid(codes: Codes, allowed: Mask) -> None:
    """Write minus infinity over the scores (q, w) of what is not allowed (w,), before codes are settled."""
    if is_bits(codes):
        codes &= -allowed.astype(np.int16)  # all bits or none
        codes |= np.where(allowed, np.int16(0), _INFINITE)
    else:
        np.minimum(codes, np.where(allowed, np.float32(np.inf), np.float32(-np.inf)), out=codes)


def lowest(codes: Codes) -> np.float32 | np.int16:
    """The settled code of −inf."""
    return _LOWEST if is_bits(codes) else np.float32(-np.inf)


def settle(codes: Codes) -> None:
    """Bring negative scores into order, in place."""
    if is_bits(codes):
        codes ^= _turned(codes)


def scores_of(codes: Codes) -> Floats:
    """The scores behind settled codes."""
    if not is_bits(codes):
        return codes.astype(np.float64)
    bits = (codes ^ _turned(codes)).astype(np.int32) << 16
    return bits.view(np.float32).astype(np.float64)


def at_most(scores: Floats, like: Codes) -> Codes:
    """The settled codes of the next number at or below each score, of the lowest finite one for what is lower."""
    scores = np.maximum(scores, -_LARGEST)
    near = scores.astype(np.float32)
    above = near > scores
    near[above] = np.nextafter(near[above], np.float32(-np.inf))
    if not is_bits(like):
        return near
    bits = near.view(np.int32) ^ ((near.view(np.int32) >> 31) & 0x7FFFFFFF)
    codes = np.where(bits < 0, (bits + 1 >> 16) - 1, bits >> 16)  # the last 16 bits of a bfloat16 are 0, settled −1
    return np.maximum(codes, _LOWEST + 1).astype(np.int16)


def rounding(longest: float, queries: Vectors) -> Floats:
    """A bound (q,) on the error of float32 inner products, twice γ_d·|q|·|v|: Higham 2002, section 3.1."""
    bound: Floats = 2 * queries.shape[1] * _ROUNDOFF * longest * lengths(queries)
    return bound


@dataclass(frozen=True)
class Plain:
    """The float32 product of vectors (n, d), the longest of which is `longest`."""

    vectors: Vectors
    longest: float
    tiles: int
    grain: float = 0.0

    def ask(self, queries: Vectors) -> "PlainAsked":
        """The queries (q, d) with memory for their scores."""
        return PlainAsked(self, queries)


@dataclass(frozen=True)
class PlainAsked:
    """Queries (q, d) of a plain product."""

    product: Plain
    queries: Vectors

    @cached_property
    def error(self) -> Floats:
        """Rounding errors (q,) of the sums."""
        return rounding(self.product.longest, self.queries)

    @cached_property
    def _space(self) -> Scores:
        return np.empty(len(self.queries) * -(-len(self.product.vectors) // self.product.tiles), dtype=np.float32)

    def scores(self, tile: int) -> Scores:
        """Float32 scores (q, w) of one tile."""
        some = self.product.vectors[tile :: self.product.tiles]
        space = self._space[: len(self.queries) * len(some)].reshape(len(self.queries), len(some))
        scores: Scores = np.matmul(self.queries, some.T, out=space)
        return scores
