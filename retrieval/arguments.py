"""Arguments of the Python interface, checked where they come in: errors name the argument, what it is, what it may be.

NumPy reads almost anything as something: text as digits, truth as numbers, complex numbers without their imaginary
part. A value that would be read as something else than it is, is refused.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.vectors import Mask
from stores.errors import MismatchError, UsageError

MAX_K = 1_000_000
"""The largest k of an index with fewer titles: answers hold k places for each query, with titles in them or not."""


def as_k(k: Any, titles: int, name: str = "k") -> int:
    """A number of titles to return, from 1 on. Raises UsageError."""
    most = max(titles, MAX_K)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= most:
        raise UsageError(f"{name} is {abbreviate(k)}", expected=f"a whole number from 1 to {most:,}")
    return int(k)


def as_cosine(alike: Any, name: str = "alike") -> float:
    """A cosine above 0 and up to 1. Raises UsageError."""
    number = isinstance(alike, (int, float, np.integer, np.floating)) and not isinstance(alike, bool)
    if not number or not math.isfinite(alike) or not 0 < alike <= 1:
        raise UsageError(f"{name} is {abbreviate(alike)}", expected="a cosine: a number above 0 and up to 1")
    return float(alike)


def as_mask(allowed: Any, titles: int, name: str = "allowed") -> Mask:
    """A boolean mask (n,) of the titles. Raises UsageError for another kind or shape, MismatchError for a length."""
    mask = as_array(allowed, name, f"bool of shape ({titles},)")
    if mask.dtype != np.bool_ or mask.ndim != 1:
        given = f"the mask is {mask.dtype} of shape {mask.shape}"
        raise UsageError(given, where=f"the argument {name}", expected=f"bool of shape ({titles},)")
    if len(mask) != titles:
        given = f"the mask has {len(mask)} entries, the index {titles} titles"
        raise MismatchError(given, where=f"the argument {name}", expected="one for each title")
    return mask


def as_flag(value: Any, name: str) -> bool:
    """True or False. Raises UsageError: any text, "no" included, would count as true."""
    if not isinstance(value, (bool, np.bool_)):
        raise UsageError(f"{name} is {abbreviate(value)}", expected="True or False")
    return bool(value)


def as_country(country: Any, name: str = "country") -> str | None:
    """A country's name, or None for no filter. Raises UsageError."""
    if country is not None and not isinstance(country, str):
        raise UsageError(f"{name} is {abbreviate(country)}", expected="a country as text, or None")
    return country


def as_maturity(maturity: Any, name: str = "max_maturity") -> int | None:
    """A maturity from 0 on that a column of int32 can hold, or None for no filter. Raises UsageError."""
    if maturity is None:
        return None
    whole = isinstance(maturity, (int, np.integer)) and not isinstance(maturity, bool)
    if not whole or not 0 <= maturity < 2**31:
        raise UsageError(f"{name} is {abbreviate(maturity)}", expected="a whole number from 0 on, or None")
    return int(maturity)


def require_instance(value: Any, kinds: type | tuple[type, ...], name: str) -> None:
    """Raise UsageError where an argument is not an instance of a class, or of one of some classes."""
    if not isinstance(value, kinds):
        names = [kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,))]
        raise UsageError(f"{name} is {abbreviate(value)}", expected=f"an instance of {' or '.join(names)}")


def as_array(value: Any, name: str, expected: str) -> npt.NDArray[Any]:
    """Anything that NumPy takes for an array. Raises UsageError where rows have different lengths."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} is no array: {error}", expected=expected) from error


def abbreviate(value: Any) -> str:
    """A value for a message: its kind and the beginning of it."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else f'{text[:59]}…'}"
