from typing import Any

import numpy as np
import pytest

from alignment import AlignmentConfig, Gram, fit
from alignment.shard_tasks import gram_of_shard


def test_titles_count_by_plays_and_members_alike(service: Any, world: Any) -> None:
    plays = np.arange(300) % 7
    release = service.encode(world, "a", plays=plays)
    rows = np.arange(150)  # the first of two shards
    weights = np.maximum(plays[rows], 1) ** 0.5
    expected = Gram.of(world.titles[rows].astype(np.float32), weights)
    found = gram_of_shard(release, "work/native/titles/part-00000.parquet", "titles", 0, 0.5)
    np.testing.assert_allclose(found.moment, expected.moment, rtol=1e-12)
    assert found.count == pytest.approx(expected.count)
    assert gram_of_shard(release, "work/native/titles/part-00000.parquet", "titles", 3, 0.5).count == pytest.approx(
        (weights * (plays[rows] >= 3)).sum()
    )
    members = gram_of_shard(release, "work/native/members/part-00000.parquet", "members", 0, 0.5)
    assert members.count == 200


def test_weighted_scores_of_low_rank_serve_what_is_played(world: Any) -> None:
    """The best rank-3 scores where plays are: no worse there than without the weights."""
    plays = np.random.default_rng(0).zipf(1.5, size=300).clip(max=500)
    gram_m, config = Gram.of(world.members), AlignmentConfig(rank=3)

    def error(weights: np.ndarray | None) -> float:
        t = fit(gram_m, Gram.of(world.titles, weights), None, config)
        wrong = t.members(world.members) @ t.titles(world.titles).T - world.scores
        return float((wrong**2).mean(axis=0) @ plays)

    assert error(plays.astype(float)) < error(None)


def test_a_bounded_number_of_members_enters_the_moment_and_scores_stay_exact(
    service: Any, another_world: Any, monkeypatch: Any
) -> None:
    from alignment import job

    read: list[str] = []

    def here(function: Any, release: Any, paths: list[str], *arguments: Any) -> list[Any]:
        if function is gram_of_shard and "members" in paths[0]:
            read.extend(paths)
        return [function(release, path, *arguments) for path in paths]

    monkeypatch.setattr(job, "map_tasks", here)
    world = another_world(members=900, titles=200)
    config = AlignmentConfig(moment_members=300)
    service.align(world, "a", config=config)
    assert len(read) == 1  # of three shards
    report = service.align(world.retrained(1), "b", config=config)
    assert report.metrics["outcome"] == "same_space"
    np.testing.assert_allclose(service.vectors("titles"), service.vectors("titles", 0), atol=1e-4)
    scores = service.vectors("members") @ service.vectors("titles").T
    np.testing.assert_allclose(scores, world.scores, atol=1e-5 * np.abs(world.scores).max())
