"""Products in bfloat16: less than half the time of float32 where the processor multiplies such numbers, and how rough.

What a screen in `retrieval` looks through before it scores what is left exactly.
"""

from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

Vectors = npt.NDArray[np.float32]
Bits = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float64]
_FLOAT32 = 2.0**-24
_SMALLEST = 2.0**-126


class Bfloat16:
    """Vectors (n, d) in tiles, tile j every T-th from the j-th on. Safe to share by threads."""

    grain = 2.0**-8

    def __init__(self, vectors: Vectors, tiles: int) -> None:
        self.tiles = tiles
        rounded = [_rounded(vectors[tile::tiles]) for tile in range(tiles)]
        self.parts = [part for part, _, _ in rounded]
        self.length = max(length.max(initial=0.0) for _, length, _ in rounded)
        self.lost = max(lost.max(initial=0.0) for _, _, lost in rounded)

    def ask(self, queries: Vectors) -> "AskedBfloat16":
        """The queries (q, d) rounded, with memory for their scores."""
        return AskedBfloat16(self, queries)


class AskedBfloat16:
    """Rounded queries. With q and t rounded to q' and t', |q·t − q'·t'| ≤ |q − q'|·|t'| + |q|·|t − t'|.

    The sum of d products in float32 adds d roundings of |q'|·|t'|, here taken four times, and numbers too small to
    be normal may count as nothing.
    """

    def __init__(self, product: Bfloat16, queries: Vectors) -> None:
        self.product = product
        self.queries, rounded, lost = _rounded(queries)
        length = rounded + lost
        each = _FLOAT32 * length * product.length + _SMALLEST * (1 + length + product.length)
        self.error: Floats = lost * product.length + length * product.lost + 4 * queries.shape[1] * each

    @cached_property
    def _space(self) -> torch.Tensor:
        return torch.empty(len(self.queries) * len(self.product.parts[0]), dtype=torch.bfloat16)

    def scores(self, tile: int) -> Bits:
        """The bits of bfloat16 scores (q, w) of one tile."""
        part = self.product.parts[tile]
        out = self._space[: len(self.queries) * len(part)].view(len(self.queries), len(part))
        with torch.inference_mode():
            torch.mm(self.queries, part.T, out=out)
        bits: Bits = out.view(torch.int16).numpy()
        return bits


def _rounded(vectors: Vectors) -> tuple[torch.Tensor, Floats, Floats]:
    """Rows (n, d) in bfloat16, the length of each rounded row (n,), and the length of what rounding took (n,)."""
    exact = np.array(vectors)  # torch warns of memory that cannot be written
    rounded = torch.from_numpy(exact).bfloat16()
    back = rounded.float().numpy()
    return rounded, _lengths(back), _lengths(exact - back)


def _lengths(rows: Vectors) -> Floats:
    squares: Floats = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
    return np.sqrt(squares)


def quickest() -> type[Bfloat16] | None:
    """The quickest product of this processor that is rough; None where float32 is as quick.

    The bound of `AskedBfloat16` is for the rounding of AVX-512, so other processors with bfloat16 have none here.
    """
    return Bfloat16 if torch.cpu.get_capabilities().get("avx512_bf16") else None
