"""Shards: a member's shard follows from its id alone, so it is the same every night and on every machine.

The shard of an id is the second half of the MD5 of its text (UTF-8; whole numbers in decimal), read
as a little-endian number, modulo the number of shards. DuckDB's `md5_number_lower` is that number.
"""

import hashlib
import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def shard_of(member_id: int | str, shards: int) -> int:
    """The shard of one id, 0 … shards − 1."""
    digest = hashlib.md5(str(member_id).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "little") % shards


def shards_of(member_ids: Iterable[int | str], shards: int) -> npt.NDArray[np.int32]:
    """The shard of each id: (n,) int32. NumPy and Arrow arrays are taken too."""
    plain = member_ids.tolist() if hasattr(member_ids, "tolist") else member_ids
    return np.fromiter((shard_of(member_id, shards) for member_id in plain), np.int32)


def shard_sql(column: str, shards: int) -> str:
    """DuckDB's expression for the shard of a column of ids, INTEGER."""
    return f"CAST(md5_number_lower(CAST({column} AS VARCHAR)) % {shards} AS INTEGER)"


def shards_for(members: int, members_per_shard: int = 20_000, least: int = 4) -> int:
    """How many shards suit a number of members: `members_per_shard` in each, but at least `least`.

    The least lets the workers of a small machine share a small lake and gives a killed night something
    to resume from; there are never more shards than members, and always one.
    """
    return max(1, min(members, max(least, math.ceil(members / members_per_shard))))
