"""The short form of `tests/chaos/verbs.py`: verbs that need no Ray, killed and given again, and two at once."""

import time
from pathlib import Path

import pytest

from tests.chaos.verbs import Trials, repeat_killed, together

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    folder: Path = tmp_path_factory.mktemp("verbs")
    return Trials(folder)


@pytest.mark.parametrize("verb", ["rollback", "erase", "gc"])
def test_a_verb_that_was_killed_and_given_again_ends_as_one_undisturbed_run(trials: Trials, verb: str) -> None:
    found = repeat_killed(trials, [verb], kills=2, seed=0, end=time.monotonic() + 600)
    assert found[verb]["wrong"] == []
    assert found[verb]["trials"] == 2


@pytest.mark.parametrize("pair", [("rollback", "erase"), ("gc", "releases")])
def test_two_verbs_at_once_end_well(trials: Trials, pair: tuple[str, str]) -> None:
    assert together(trials, "small", pair, 0.2) == []
