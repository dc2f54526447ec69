import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alignment import AlignmentConfig, AlignmentTransform, Anchors, Gram, fit
from stores.errors import CorruptError, MismatchError, NotFoundError


@pytest.fixture(scope="module")
def transform(world: Any) -> AlignmentTransform:
    grams = Gram.of(world.members), Gram.of(world.titles)
    new = world.retrained(1)
    space = fit(*grams)
    return fit(Gram.of(new.members), Gram.of(new.titles), Anchors(new.titles, space.titles(world.titles)))


@pytest.mark.parametrize("config", [{}, {"mode": "orthogonal"}, {"rank": 5}, {"rank": 15}, {"mode": "off"}])
def test_a_file_gives_the_same_bits_back(world: Any, tmp_path: Path, config: dict[str, Any]) -> None:
    t = fit(Gram.of(world.members), Gram.of(world.titles), config=AlignmentConfig(**config))
    t.save(tmp_path / "t")
    loaded = AlignmentTransform.load(tmp_path / "t")
    x = world.titles.astype(np.float32)
    assert loaded.titles(x).tobytes() == t.titles(x).tobytes()
    assert loaded.members(x).tobytes() == t.members(x).tobytes()
    assert (loaded.hash, loaded.mode, loaded.rank, loaded.ridge) == (t.hash, t.mode, t.rank, t.ridge)
    assert loaded.energy_kept == t.energy_kept
    assert loaded.to_bytes() == t.to_bytes() == (tmp_path / "t").read_bytes()


def test_what_the_anchors_left_open_is_in_the_file(world: Any) -> None:
    grams = Gram.of(world.members), Gram.of(world.titles)
    few = Anchors(world.titles[:20], fit(*grams).titles(world.titles)[:20] * (np.arange(12) < 6))
    t = fit(*grams, few)
    assert AlignmentTransform.from_bytes(t.to_bytes()).undetermined == t.undetermined > 0.1


def test_a_damaged_file_is_refused(transform: AlignmentTransform) -> None:
    data = bytearray(transform.to_bytes())
    data[-3] ^= 1
    with pytest.raises(CorruptError, match="has hash"):
        AlignmentTransform.from_bytes(bytes(data))
    with pytest.raises(NotFoundError, match="there is no saved transform"):
        AlignmentTransform.load("nowhere/transform.safetensors")
    for broken in (b"", b"no safetensors at all", transform.to_bytes()[:-9]):
        with pytest.raises(CorruptError):
            AlignmentTransform.from_bytes(broken)


def test_dtype_stays_and_the_result_is_that_of_float64(transform: AlignmentTransform, world: Any) -> None:
    x = world.titles.astype(np.float32)
    exact = transform.titles(x.astype(np.float64))
    assert exact.dtype == np.float64
    assert transform.titles(x).tobytes() == exact.astype(np.float32).tobytes()
    assert transform.titles(x[:0]).shape == (0, 12)


def test_rows_do_not_depend_on_their_company(transform: AlignmentTransform) -> None:
    x = np.random.default_rng(0).normal(size=(20_000, 12)).astype(np.float32)
    np.testing.assert_allclose(transform.members(x)[9000:9010], transform.members(x[9000:9010]), rtol=1e-6)


def test_memory_beyond_the_result_does_not_depend_on_rows(transform: AlignmentTransform) -> None:
    def beyond(count: int) -> int:
        x = np.ones((count, 12), np.float32)
        tracemalloc.start()
        size = transform.members(x).nbytes
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most - size

    beyond(100)
    assert beyond(400_000) <= 1.05 * beyond(40_000)


@pytest.mark.parametrize("mode", ["canonical", "orthogonal", "off"])
@pytest.mark.parametrize("rank", [None, 15])
def test_the_inverse_restores_native_vectors(world: Any, mode: str, rank: int | None) -> None:
    new = world.retrained(2, condition=1e3)
    t = fit(Gram.of(new.members), Gram.of(new.titles), config=AlignmentConfig(mode=mode, rank=rank))
    back = t.inverse()
    np.testing.assert_allclose(back.titles(t.titles(new.titles)), new.titles, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(back.members(t.members(new.members)), new.members, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("side", ["members", "titles"])
def test_folding_into_the_last_layer_is_applying_after_it(transform: AlignmentTransform, side: Any) -> None:
    rng = np.random.default_rng(0)
    hidden, weight, bias = rng.normal(size=(30, 7)), rng.normal(size=(7, 12)), rng.normal(size=12)
    apply = getattr(transform, side)
    folded, folded_bias = transform.fold(weight, bias, side=side)
    np.testing.assert_allclose(hidden @ folded + folded_bias, apply(hidden @ weight + bias), atol=1e-12)
    assert transform.fold(weight.astype(np.float32), side=side)[1] is None
    as_layer = transform.fold(np.eye(12), side=side)[0]
    np.testing.assert_array_equal(as_layer, getattr(transform, f"{side[:-1]}_map"))


def test_the_hash_names_model_and_maps(transform: AlignmentTransform) -> None:
    from dataclasses import replace

    assert replace(transform, model_id="other").hash != transform.hash
    assert replace(transform, title_map=transform.title_map + 1e-16).hash != transform.hash
    assert replace(transform, moved=np.array([1])).hash == transform.hash


def test_vectors_of_another_width_are_refused(transform: AlignmentTransform) -> None:
    with pytest.raises(MismatchError, match="vectors are 11 wide, the transform was fitted for 12"):
        transform.titles(np.ones((3, 11)))
