"""Older spaces that follow the new model: mapped as long as alignment does not refuse, frozen and told otherwise."""

from datetime import date

import numpy as np
import pytest

from alignment import AcceptanceConfig, AlignmentConfig, previous_spaces
from alignment.reference import to_matrix
from stores.publishing.journal import PublishedState, set_published_state
from stores.releases.release import Release, StageReport
from stores.releases.workspace import Workspace

STRICT = AlignmentConfig(acceptance=AcceptanceConfig(same_cosine_p50=1.0))
"""Nothing but the very same vectors is the same space."""
LATER, EARLIER = date(2026, 1, 1), date(2025, 12, 31)


def published(service, config=STRICT, until=None) -> StageReport | None:
    """Seal the last night, its older spaces decided, and note that it is what Feast's views hold."""
    release, report = service.nights[-1], None
    if until:
        report = release.run_stage("previous_spaces", lambda: previous_spaces.run(config, release, until))
    stages = [one for one in (release.stage_report("align"), report) if one]
    release.seal([], stages, {})
    service.nights[-1] = release = Release(service.uri, release.release_id)
    storage = Workspace.open(service.uri).storage
    spaces = [release.space_id, *(s for s, old in release.manifest.previous_spaces.items() if not old.reasons)]
    for space_id in spaces:
        set_published_state(storage, space_id, PublishedState(release_id=release.release_id, online_store="x"))
    return report


def rows(release, side, root="spaces/1/"):
    table = release.storage.dataset(f"{root}{side}").to_table().sort_by(f"{side[:-1]}_id")
    return to_matrix(table).astype(np.float64), table["release_id"].to_pylist()


@pytest.fixture
def opened(service, world):
    """Night 1 opens space 1, a noisy retrain space 2, which space 1 follows."""
    service.align(world, "a")
    published(service)
    service.align(world.retrained(1, noise=0.1), "b", config=STRICT)
    assert published(service, until=LATER).metrics["spaces"]["1"]["reasons"] == []
    return service


def test_today_is_told_in_the_coordinates_of_the_old_space(opened, world):
    first, second = opened.nights
    assert (second.space_id, second.manifest.previous_spaces["1"].release_id) == ("2", second.release_id)
    before, now = (rows(release, "titles", root)[0] for release, root in ((first, ""), (second, "spaces/1/")))
    cosine = (before * now).sum(axis=1) / np.linalg.norm(before, axis=1) / np.linalg.norm(now, axis=1)
    assert np.median(cosine) > 0.98
    (members, since), (titles, _) = rows(second, "members"), rows(second, "titles")
    own = rows(second, "members", "")[0] @ rows(second, "titles", "")[0].T
    assert np.abs(members @ titles.T - own).max() < 1e-4 * np.abs(own).max()
    assert set(since) == {second.release_id}


def test_with_the_same_model_only_what_changed_moves(opened, world):
    second = opened.nights[1]
    plan = {"space_id": "2", "reference_release": second.release_id, "carried": second}
    opened.align(world.retrained(1, noise=0.1), "b", config=STRICT, **plan)
    report = published(opened, until=LATER)
    assert report.metrics["judged"]["1"]["reused"]
    before, now = (rows(release, "members") for release in opened.nights[1:])
    assert now[0].tobytes() == before[0].tobytes()
    assert now[1] == before[1]


def test_a_space_that_cannot_be_mapped_is_frozen_and_says_why(service, world, another_world):
    service.align(world, "a")
    published(service)
    service.align(another_world(seed=9), "b", config=STRICT)
    old = published(service, until=LATER).metrics["spaces"]["1"]
    assert old["release_id"] == service.nights[0].release_id
    assert any("shuffled" in reason for reason in old["reasons"])
    assert service.nights[1].storage.files("spaces") == []


def test_after_its_day_a_space_is_frozen_at_what_it_served_last(opened, world):
    second = opened.nights[1]
    plan = {"space_id": "2", "reference_release": second.release_id}
    opened.align(world.retrained(1, noise=0.1), "b", config=STRICT, **plan)
    assert previous_spaces.is_needed(opened.nights[-1], None)
    old = published(opened, until=EARLIER).metrics["spaces"]["1"]
    assert (old["release_id"], old["last_release"]) == (second.release_id, opened.nights[0].release_id)
    assert old["reasons"] == ["[publish] previous_spaces_until is 2025-12-31"]
