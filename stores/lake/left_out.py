"""What is said of files that lie among a lake's data and are not read."""

import sys
from typing import Any

from stores.lake.contract import Lake, told_left_out

LISTED = 20


def left_out(lake: Lake) -> dict[str, Any]:
    """How many files are left out, and the path and the reason of the first ones."""
    files = lake.left_out
    return {"count": len(files), "first": [{"path": file.path, "why": file.why} for file in files[:LISTED]]}


def remark(lake: Lake) -> None:
    """Say on stderr which files are not read, if there are any."""
    told = told_left_out(lake.left_out)
    if told:
        sys.stderr.write(f"  {told.lstrip('; ')}\n")
