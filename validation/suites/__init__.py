"""The gate's suites: each file names the figures of one subject and what is allowed of them.

A suite is `(figures, expectations)`: figures by column of a one-row frame, and what is expected of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from validation.checks import Expectation

Suite = tuple[Mapping[str, Any], Sequence[Expectation]]
