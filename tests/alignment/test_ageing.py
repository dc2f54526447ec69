"""A space outlives its first catalogue: the reference table takes over from the epoch's titles."""

from typing import Any

import numpy as np
import pytest

from alignment import AlignmentConfig

pytestmark = pytest.mark.usefixtures("ray_session")


def test_a_catalogue_that_is_replaced_night_by_night_stays_in_its_space(service: Any, world: Any) -> None:
    """Six retrains, each with 25 of 150 titles gone for 25 new ones, and no member to hold on to."""
    config = AlignmentConfig(member_anchors=0)
    metrics = []
    for night, start in enumerate((0, 25, 50, 75, 100, 125, 150)):
        ids = np.arange(start, start + 150)
        part = type(world)(world.members, world.titles[ids])
        new = part.retrained(night, noise=0.02)
        metrics.append(service.align(new, f"model-{night}", titles=ids, config=config).metrics)
    assert {m["outcome"] for m in metrics[1:]} == {"same_space"}, [m["reasons"] for m in metrics]
    shares = [m["anchors_from_epoch"] for m in metrics[1:]]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1]) == (1, 0)
    ages = [m["anchor_age_days"] for m in metrics[1:]]
    assert ages[0] == 1
    assert 1 < ages[-1] < 6
    first, last = service.vectors("members", 0), service.vectors("members")
    assert np.median((first * last).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(last, axis=1)) > 0.95


@pytest.mark.parametrize("model", ["model-1", "model-0"])
def test_members_who_did_something_do_not_take_the_space_away(service: Any, world: Any, model: str) -> None:
    """Most members have new histories and lie anywhere now; the others, and all titles, are where they were."""
    service.align(world, "model-0")
    active = np.flatnonzero(np.arange(len(world.members)) % 10 != 0)
    members = world.members.copy()
    members[active] = members[np.random.default_rng(0).permutation(active)]
    tonight = type(world)(members, world.titles)
    if model == "model-1":
        tonight = tonight.retrained(1, noise=0.02)
    metrics = service.align(tonight, model, active=active).metrics
    assert (metrics["outcome"], metrics["reasons"]) == ("same_space", [])
    assert metrics["heldout_member_identification"] > 0.9
