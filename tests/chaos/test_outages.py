"""The short form of `outages.py`: every kind of failure once."""

from pathlib import Path

import pytest

from tests.chaos.outages import TROUBLES, redis_outages, s3_outages


def test_redis_that_fails_in_the_middle_is_named_and_the_next_command_completes(tmp_path: Path) -> None:
    redis_outages(tmp_path, [(name, 1 + number % 3) for number, name in enumerate(TROUBLES)])


@pytest.mark.slow
def test_s3_that_fails_in_the_middle_is_named_and_the_next_command_completes(tmp_path: Path) -> None:
    s3_outages(tmp_path, [("503", 0.2), ("drop", 0.5), ("cut", 0.8)])
