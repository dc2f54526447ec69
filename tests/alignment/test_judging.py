from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from alignment import AcceptanceVerdict, AlignmentConfig, Anchors, Gram, fit, judge
from stores.errors import MismatchError

HELD = slice(0, 60)
FITTED = slice(60, None)


def verdict(
    world: Any, new: Any, order: np.ndarray | None = None, config: AlignmentConfig | None = None
) -> AcceptanceVerdict:
    """Fit on most titles and members, judge by the rest; `order` says whose reference each title is given."""
    space = fit(Gram.of(world.members), Gram.of(world.titles), config=config)
    titles, members = space.titles(world.titles), space.members(world.members)
    titles = titles if order is None else titles[order]
    fitted, held = (
        Anchors(new.titles[part], titles[part], None, new.members[part], members[part]) for part in (FITTED, HELD)
    )
    return judge(fit(Gram.of(new.members), Gram.of(new.titles), fitted, config), held, config)


def stored(world: Any) -> Any:
    """The world as it comes from storage: float32."""
    return replace(world, members=world.members.astype(np.float32), titles=world.titles.astype(np.float32))


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.7])
def test_a_retrain_is_the_same_space(world: Any, noise: float) -> None:
    assert verdict(stored(world), stored(world.retrained(1, noise=noise))).outcome == "same_space"
    found = verdict(world, world.retrained(1, noise=noise))
    assert found.outcome == "same_space", found.reasons
    assert found.reasons == []
    assert found.metrics["heldout_native_top_overlap"] == 1
    assert found.metrics["score_error"] < 1e-9


def test_without_noise_every_figure_is_perfect(world: Any) -> None:
    found = verdict(world, world.retrained(1)).metrics
    for name in ("cosine_p50", "cosine_p5", "identification", "correlation", "scale", "mixed_top_overlap"):
        assert found[f"heldout_{name}"] == pytest.approx(1)
    assert found["heldout_bound_ratio"] <= 1
    assert found["undetermined"] < 1e-12
    assert found["moved_anchors"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_an_unrelated_model_is_refused(world: Any, another_world: Callable[..., Any], seed: int) -> None:
    found = verdict(world, another_world(seed=100 + seed))
    assert found.outcome == "refused"
    assert "unrelated" in found.reasons[0]
    assert verdict(stored(world), stored(another_world(seed=100 + seed))).outcome == "refused"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [16, 48])
def test_even_by_its_own_anchors_an_unrelated_model_is_refused(
    another_world: Callable[..., Any], dim: int, dtype: type
) -> None:
    old, new = (another_world(titles=200, dim=dim, seed=seed) for seed in (0, 1))
    reference = fit(Gram.of(old.members), Gram.of(old.titles)).titles(old.titles)
    for model, outcome in ((old.retrained(1, noise=0.3), "same_space"), (new, "refused")):
        titles = model.titles.astype(dtype)
        anchors = Anchors(titles, reference.astype(dtype))
        found = judge(fit(Gram.of(model.members), Gram.of(titles), anchors), anchors)
        assert found.outcome == outcome, found.reasons


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_title_ids_are_refused(world: Any, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(world.titles))
    assert verdict(world, world.retrained(seed), order).outcome == "refused"


def test_a_direction_that_all_share_does_not_hide_a_shuffle(world: Any) -> None:
    shared = replace(world, titles=world.titles + 5 * np.ones(12), members=world.members + 5 * np.ones(12))
    found = verdict(shared, shared.retrained(1), np.random.default_rng(0).permutation(300))
    assert found.metrics["heldout_cosine_p50"] > 0.5
    assert found.outcome == "refused"


def test_too_much_change_opens_a_new_space(world: Any) -> None:
    found = verdict(world, world.retrained(1, noise=2.5))
    assert found.outcome == "new_space"
    assert found.reasons


def test_another_scale_opens_a_new_space(world: Any) -> None:
    found = verdict(world, replace(world, titles=world.titles * 100))
    assert found.outcome == "new_space"
    assert "times the reference's" in found.reasons[0]


def test_unaligned_vectors_are_not_the_same_space(world: Any) -> None:
    assert verdict(world, world.retrained(1), config=AlignmentConfig(mode="off")).outcome != "same_space"


@pytest.mark.parametrize("count", [0, 1, 9])
def test_too_few_held_out_anchors_measure_nothing(world: Any, count: int) -> None:
    space = fit(Gram.of(world.members), Gram.of(world.titles))
    found = judge(space, Anchors(world.titles[:count], space.titles(world.titles[:count])))
    assert found.outcome == "new_space"
    assert f"{count} held-out anchors" in found.reasons[0]
    assert judge(space, None).outcome == "new_space"
    assert judge(None, None).outcome == "new_space"


def test_maps_that_break_scores_are_refused(world: Any) -> None:
    space = fit(Gram.of(world.members), Gram.of(world.titles))
    held = Anchors(world.titles, space.titles(world.titles))
    broken = replace(space, member_map=space.member_map * 1.01)
    assert judge(broken, held).outcome == "refused"


def test_directions_without_anchors_open_a_new_space(world: Any) -> None:
    space = fit(Gram.of(world.members), Gram.of(world.titles))
    new = world.retrained(1)
    flat = space.titles(world.titles)
    flat[:, 0] = 0
    t = fit(Gram.of(new.members), Gram.of(new.titles), Anchors(new.titles, flat))
    found = judge(t, Anchors(new.titles, flat))
    assert found.outcome == "new_space"
    assert any("rotation open" in reason for reason in found.reasons)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_anchors_that_span_half_of_the_space_open_a_new_one(world: Any, dtype: type) -> None:
    """Where fitted and held-out anchors alike know six of twelve dimensions they agree perfectly and prove nothing."""
    space = fit(Gram.of(world.members), Gram.of(world.titles))
    flat = space.titles(world.titles)
    flat[:200, 6:] = 0
    half = replace(world, titles=space.inverse().titles(flat))
    space = fit(Gram.of(half.members), Gram.of(half.titles))
    reference = space.titles(half.titles).astype(dtype)
    new = half.retrained(1)
    titles, gram_m = new.titles.astype(dtype), Gram.of(new.members.astype(dtype))
    fitted, held = (Anchors(titles[part], reference[part]) for part in (slice(60, 200), HELD))
    t = fit(gram_m, Gram.of(titles), fitted)
    found = judge(t, held)
    assert found.metrics["heldout_cosine_p5"] > 0.999
    assert found.metrics["undetermined"] > 0.1
    assert found.outcome == "new_space"
    everyone = Anchors(titles[60:], reference[60:])
    assert judge(fit(gram_m, Gram.of(titles), everyone), held).outcome == "same_space"


def test_anchors_of_another_width_are_refused(world: Any) -> None:
    space = fit(Gram.of(world.members), Gram.of(world.titles))
    with pytest.raises(MismatchError, match="references are 9 wide, the transform's space is 12"):
        judge(space, Anchors(world.titles, space.titles(world.titles)[:, :9]))
    with pytest.raises(MismatchError, match="vectors are 9 wide, the transform was fitted for 12"):
        judge(space, Anchors(world.titles[:, :9], space.titles(world.titles)))
