"""The whole Python interface of alignment: what cannot be used is refused by name, and every figure is a number."""

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from alignment import AlignmentConfig, AlignmentTransform, Anchors, Gram, fit, fit_and_validate, judge
from stores.errors import AlignmentError, AlignmentInputError, CorruptError, MismatchError, UsageError

D = 4
NOT_ROWS = {
    "complex": np.ones((9, D)) + 1j,
    "complex without imaginary parts": np.ones((9, D), complex),
    "text": np.full((9, D), "1"),
    "bytes": np.full((9, D), b"1"),
    "truth": np.ones((9, D), bool),
    "objects": np.array([[1.0, None, 2.0, 3.0]] * 9, dtype=object),
    "decimals": [[Decimal(1)] * D] * 9,
    "times": np.zeros((9, D), "datetime64[us]"),
    "ragged": [[1.0, 2.0], [1.0]],
    "a text": "1234",
    "a number": 5.0,
    "nothing": None,
    "one dimension": np.ones(D),
    "three dimensions": np.ones((2, 2, D)),
    "no width": np.ones((9, 0)),
}
NOT_FINITE = {"NaN": np.full((9, D), np.nan), "infinity": np.full((9, D), -np.inf)}


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, D)), rng.normal(size=(40, D))


@pytest.fixture
def transform(sides: Any) -> AlignmentTransform:
    return fit(Gram.of(sides[0]), Gram.of(sides[1]))


@pytest.mark.parametrize("given", NOT_ROWS.values(), ids=NOT_ROWS)
def test_what_are_no_rows_is_refused_everywhere(transform: AlignmentTransform, given: Any) -> None:
    good = np.ones((9, D))
    calls = (
        lambda: Gram.of(given),
        lambda: Anchors(given, good),
        lambda: Anchors(good, given),
        lambda: Anchors(good, good, member_new=given, member_reference=good),
        lambda: Anchors(good, good, member_new=good, member_reference=given),
        lambda: transform.members(given),
        lambda: transform.titles(given),
        lambda: transform.fold(given),
    )
    for call in calls:
        with pytest.raises(AlignmentInputError) as caught:
            call()
        assert isinstance(caught.value, UsageError)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize("given", NOT_FINITE.values(), ids=NOT_FINITE)
def test_rows_that_are_not_finite_are_named_by_position(transform: AlignmentTransform, given: Any) -> None:
    good = np.ones((9, D))
    for call in (
        lambda: Gram.of(given),
        lambda: Anchors(given, good),
        lambda: Anchors(good, given),
        lambda: transform.members(given),
        lambda: transform.titles(given),
        lambda: transform.fold(given),
        lambda: transform.fold(good, given[0]),
    ):
        with pytest.raises(AlignmentError, match="positions 0"):
            call()
    assert not np.isfinite(transform.apply(given[:1], "members")).any()


WEIGHTS = {
    "text": ["1"] * 9,
    "complex": np.ones(9, complex),
    "truth": np.ones(9, bool),
    "missing": [None] * 9,
    "negative": -np.ones(9),
    "NaN": np.full(9, np.nan),
    "too few": np.ones(8),
    "a table": np.ones((9, 1)),
    "a number": 2.0,
    "a word": "equal",
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_weights_are_one_number_for_each_row(weights: Any) -> None:
    good = np.ones((9, D))
    for call in (lambda: Gram.of(good, weights), lambda: Anchors(good, good, weights)):
        with pytest.raises(AlignmentInputError, match="weights"):
            call()


def test_arguments_have_their_classes(transform: AlignmentTransform, sides: Any) -> None:
    gram_m, gram_t = Gram.of(sides[0]), Gram.of(sides[1])
    anchors = Anchors(sides[1], transform.titles(sides[1]))
    calls = {
        "gram_m": lambda: fit(sides[0], gram_t),
        "gram_t": lambda: fit(gram_m, None),
        "anchors": lambda: fit(gram_m, gram_t, (sides[1], sides[1])),
        "config": lambda: fit(gram_m, gram_t, anchors, {"mode": "off"}),
        "transform": lambda: judge("x", anchors),
        "held_out": lambda: judge(transform, sides[1]),
        "a Gram": lambda: gram_m + sides[0],
        "taken from": lambda: gram_m - 5,
        "side": lambda: transform.fold(np.eye(D), side="member"),
    }
    for name, call in calls.items():
        with pytest.raises(AlignmentInputError, match=name):
            call()
    bad = Gram(np.full((D, D), np.nan), 60.0)
    with pytest.raises(AlignmentInputError, match="gram_m is not finite"):
        fit(bad, gram_t, config=AlignmentConfig(mode="off"))
    with pytest.raises(AlignmentInputError, match="both member_new"):
        Anchors(sides[1], sides[1], member_new=sides[0])
    with pytest.raises(MismatchError):
        transform.members(np.ones((2, D + 1)))
    with pytest.raises(MismatchError):
        gram_m + Gram.zero(D + 1)


def test_a_saved_gram_that_is_none_is_refused(tmp_path: Any, sides: Any) -> None:
    good = Gram.of(sides[0])
    good.save(tmp_path / "g")
    assert Gram.load(tmp_path / "g").moment.tobytes() == good.moment.tobytes()
    for moment in (np.ones((2, 3)), np.full((2, 2), np.nan), np.ones(4), np.ones((2, 2), np.float32)):
        Gram(moment, 1.0).save(tmp_path / "bad")
        with pytest.raises(CorruptError):
            Gram.load(tmp_path / "bad")


ZERO = {
    "members": (True, False),
    "titles": (False, True),
    "both": (True, True),
}


@pytest.mark.parametrize("zero", ZERO.values(), ids=ZERO)
@pytest.mark.parametrize("mode", ["off", "orthogonal", "canonical"])
@pytest.mark.filterwarnings("error")
def test_sides_of_zeros_give_numbers_or_an_error_and_never_what_json_has_no_word_for(
    sides: Any, zero: tuple[bool, bool], mode: Any
) -> None:
    members, titles = (np.zeros_like(side) if none else side for side, none in zip(sides, zero, strict=True))
    config = AlignmentConfig(mode=mode)
    if mode != "off":
        with pytest.raises(AlignmentError, match="are zero"):
            fit(Gram.of(members), Gram.of(titles), config=config)
        return
    transform = fit(Gram.of(members), Gram.of(titles), config=config)
    assert transform.energy_kept == 1.0
    assert AlignmentTransform.from_bytes(transform.to_bytes()).hash == transform.hash
    for reference in (titles, np.zeros_like(titles)):
        held_out = Anchors(titles, reference, member_new=members, member_reference=members)
        verdict = judge(transform, held_out, config)
        json.dumps({"reasons": verdict.reasons, "figures": verdict.metrics}, allow_nan=False)
        json.dumps(
            fit_and_validate(Gram.of(members), Gram.of(titles), held_out, held_out, config).verdict.metrics,
            allow_nan=False,
        )
    narrow = fit(Gram.of(members), Gram.of(titles), config=AlignmentConfig(mode=mode, rank=2))
    assert 0 <= narrow.energy_kept <= 1


def test_a_reference_of_zeros_is_a_reason_and_no_infinity(sides: Any, transform: AlignmentTransform) -> None:
    verdict = judge(transform, Anchors(sides[1], np.zeros_like(sides[1])))
    assert verdict.outcome != "same_space"
    assert verdict.metrics["heldout_scale"] is None
    json.dumps(verdict.metrics, allow_nan=False)


@pytest.mark.parametrize("size", [1e-170, 1e-155, 1e-150, 1e-100, 1e100, 1e150, 1e153])
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_vectors_of_extraordinary_size_give_finite_maps_or_an_error(sides: Any, size: float) -> None:
    for mode in ("canonical", "orthogonal", "off"):
        for members, titles in ((sides[0] * size, sides[1]), (sides[0], sides[1] * size), (sides[0] * size,) * 2):
            try:
                found = fit(Gram.of(members), Gram.of(titles), config=AlignmentConfig(mode=mode))
            except AlignmentError:
                continue
            assert np.isfinite(found.member_map).all()
            assert np.isfinite(found.title_map).all()
            json.loads(json.dumps([found.energy_kept, *found.ridge], allow_nan=False))


def test_every_flip_in_the_header_of_a_transform_is_refused(transform: AlignmentTransform) -> None:
    """Also in the names of its keys: one that is not known must not make the others be taken as they are."""
    data = transform.to_bytes()
    length = 8 + int.from_bytes(data[:8], "little")
    taken = []
    for at in range(length):
        for bit in range(8):
            flipped = data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]
            try:
                AlignmentTransform.from_bytes(flipped)
            except CorruptError:
                continue
            taken.append((at, bit, data[max(0, at - 10) : at + 10]))
    assert taken == []


def test_a_header_from_before_headers_were_signed_is_still_read(transform: AlignmentTransform) -> None:
    from safetensors.numpy import load, save

    data = transform.to_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["samespace.alignment"])
    old = {name: value for name, value in header.items() if name not in ("signature", "undetermined")}
    written = save(load(data), metadata={"samespace.alignment": json.dumps(old, sort_keys=True)})
    assert AlignmentTransform.from_bytes(written).hash == transform.hash
    renamed = save(load(data), metadata={"samespace.alignment": json.dumps({**old, "signaturf": "x"})})
    with pytest.raises(CorruptError):
        AlignmentTransform.from_bytes(renamed)
