"""Damage for the fuzzing: files cut short, bits flipped, bytes put in or taken out."""

import os
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("SAMESPACE_FUZZ", "0"))
"""Examples of each property instead of a few: `make chaos` sets it."""


def fuzz(few: int) -> Any:
    """Settings of a property: a few examples, the same every time, or as many new ones as the environment says."""
    return settings(
        max_examples=EXAMPLES or few,
        derandomize=not EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, float, int]:
    """What to do, where (as a share of the bytes), and a number that says how."""
    kind = draw(st.sampled_from(["cut", "flip", "insert", "empty"]))
    return kind, draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(0, 255))


def damaged(data: bytes, damage: tuple[str, float, int]) -> bytes:
    """The bytes after the damage."""
    kind, share, number = damage
    at = int(share * len(data))
    if kind == "cut":
        return data[:at]
    if kind == "insert":
        return data[:at] + bytes([number]) * (1 + number) + data[at:]
    if kind == "empty" or not data:
        return b""
    return data[:at] + bytes([data[at] ^ (1 << number % 8)]) + data[at + 1 :]


def damage_file(path: Path, damage: tuple[str, float, int]) -> bytes:
    """Damage a file where it lies; its bytes before."""
    before = path.read_bytes()
    path.write_bytes(damaged(before, damage))
    return before
