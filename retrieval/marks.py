"""What selecting is made of: where a mask is true, lists as rows of a table, whole numbers that order like scores."""

import numpy as np
import numpy.typing as npt

from retrieval.vectors import Mask, Rows, Scores


def places(mask: Mask) -> Rows:
    """`np.flatnonzero`, for masks that are nearly all false: eight entries are passed over at a time."""
    flat = mask.ravel()
    whole = len(flat) // 8 * 8
    words = flat[:whole].view(np.uint64)
    word = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words.take(word).view(np.bool_))
    found = word.take(inside >> 3)
    found <<= 3
    found += inside & 7
    return np.concatenate([found, whole + np.flatnonzero(flat[whole:])]) if whole < len(flat) else found


def seats(count: Rows, width: int) -> Rows:
    """The flat places in a table (q, width) of lists that follow one another, the i-th of them `count[i]` long."""
    start = np.arange(len(count)) * width - np.cumsum(count) + count
    return np.arange(count.sum()) + np.repeat(start, count)


def descending(scores: Scores) -> npt.NDArray[np.int64]:
    """Whole numbers from −2³¹ to 2³¹ − 1 that descend as float32 scores ascend, and are equal where those are."""
    bits = (scores + np.float32(0)).view(np.int32)  # adding zero turns −0 into 0
    return (~(bits ^ ((bits >> 31) & 0x7FFFFFFF))).astype(np.int64)
