import numpy as np

from validation.checks import GateVerdict
from validation.config import DriftThresholds, GateConfig
from validation.drift import POPULARITY_THIRDS, segment_figures
from validation.job import run_vectors
from validation.release_pairs import pair

LIMITS = DriftThresholds(min_segment_titles=20)
MOVED = "no segment of titles moved away"


def one_genre_lost(content):
    """Every third title is a drama; all of them end up elsewhere."""
    rng = np.random.default_rng(4)
    content["titles"] = content["titles"].copy()
    content["titles"][::3] = -content["titles"][::3] + rng.normal(scale=0.1, size=content["titles"][::3].shape)


def figures(live, edit, limits=LIMITS):
    release = live.stage(edit)
    return segment_figures(pair(release, live.releases[-1], 2_000), release, limits)


def test_each_title_is_in_one_third_and_in_its_genres(live):
    found = {entry["segment"]: entry for entry in figures(live, lambda content: None)["segments"]}
    assert set(found) == {*POPULARITY_THIRDS, "Drama", "Comedy", "Space <opera>"}
    assert sum(found[name]["titles"] for name in POPULARITY_THIRDS) == 60
    assert all(entry["moved_share"] == 0 for entry in found.values())


def test_a_lost_genre_is_the_first_and_is_warned_of_by_name(live):
    found = figures(live, one_genre_lost)
    assert found["segments"][0]["segment"] == "Drama"
    assert found["segment_moved_share"] == found["segments"][0]["moved_share"] == 1
    report = run_vectors(GateConfig(), live.stage(one_genre_lost))
    warned = {check.expectation: check.examples for check in GateVerdict.of("gate", report.metrics).warnings}
    assert warned[MOVED][0] == "Drama: 100% of 20 titles"


def test_small_segments_say_nothing(live):
    assert figures(live, one_genre_lost, DriftThresholds(min_segment_titles=21)) == {}
