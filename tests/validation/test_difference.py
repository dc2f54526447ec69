import json

import numpy as np
import pytest

from validation.config import DriftThresholds
from validation.release_diff import diff_releases, dimensions

LIMITS = DriftThresholds()


def test_a_release_does_not_differ_from_itself(live):
    found = diff_releases(live.releases[0], live.releases[0], LIMITS)
    assert (found["members"]["changed"], found["titles"]["left"]) == (0, 0)
    assert found["neighbour_jaccard"] == 1
    assert found["title_cosine_p50"] == pytest.approx(1)
    assert all(entry["correlation"] == pytest.approx(1) for entry in found["dimensions"])


def test_what_moved_is_named_with_its_neighbours(nights):
    first = nights.seal(nights.stage())

    def turned(content):
        content["plays"][7] = 10_000
        content["titles"][7] *= -1

    second = nights.seal(nights.stage(turned), gates=False)
    found = diff_releases(first, second, LIMITS)
    assert found["moved"][0]["name"] == "Title 7"
    assert found["moved"][0]["cosine"] < -0.9
    assert found["moved"][0]["was_near"] != found["moved"][0]["is_near"]
    json.dumps(found, allow_nan=False)


def test_what_came_and_left_is_counted(nights):
    first = nights.seal(nights.stage())
    second = nights.seal(nights.stage(lambda content: content.update(drop_members=10)), gates=False)
    assert diff_releases(first, second, LIMITS)["members"]["left"] == 10
    assert diff_releases(second, first, LIMITS)["members"]["left"] == 0


def test_two_spaces_are_compared_by_neighbours_alone(nights):
    first = nights.seal(nights.stage())
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))

    def announced(content):
        content["reports"]["align"].update(outcome="new_space", space_id="2")
        for side in ("members", "titles"):
            content[side] = content[side] @ turn

    found = diff_releases(first, nights.seal(nights.stage(announced), gates=False), LIMITS)
    assert not found["same_space"]
    assert "dimensions" not in found
    assert found["neighbour_jaccard"] > 0.8
    assert found["moved"][0]["cosine"] is None


def test_dimensions_say_which_one_turned_round():
    x = np.random.default_rng(0).normal(size=(200, 3)) * [3, 2, 1]
    found = dimensions(x * [1, -1, 0], x)
    assert [entry["correlation"] for entry in found] == [pytest.approx(1), pytest.approx(-1), None]
    assert sum(entry["energy_before"] for entry in found) == pytest.approx(1)
