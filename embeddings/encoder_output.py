"""The output of an encoder as float32 rows: what is converted, and what is refused by name.

Converted are float64, float16 and integers; read-only and strided arrays; torch tensors of any float type, with a
gradient or on a GPU; lists of numbers, rows or tensors; object arrays of numbers or rows; Arrow arrays. A number that
float32 cannot hold and a masked entry become what is not finite, which refuses the row. Complex numbers, booleans,
texts, times, None and rows of different lengths are refused.
"""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
UNUSABLE = "the encoder returned"
"""How the reason begins where an output has another shape or type than it must have."""


def float32_of(output: Any) -> Vectors:
    """A float32 array of the shape of what an encoder returned; it may share memory with it.

    Raises TypeError where the entries are no real numbers, ValueError where the rows have different lengths.
    """
    array = np.asarray(_plain(output))
    if array.dtype == object:  # of numbers or of whole rows
        array = np.array([_plain(row) for row in array.tolist()]) if array.ndim else array
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{UNUSABLE} entries of type {array.dtype}, expected float32")
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
