"""Whatever array an encoder returns is the same vectors, or is refused by name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from embeddings.encode.bisection import answers, encode_or_nan, encode_rows
from embeddings.encode.encoder import to_float32
from stores.errors import EncoderError

X = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float16).astype(np.float32)
"""Numbers that every float type of at least sixteen bits holds exactly."""


def rows_of_objects(x: Any) -> Any:
    rows = np.empty(len(x), object)
    rows[:] = list(x)
    return rows


def frozen(x: Any) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


SAME: dict[str, Callable[[Any], Any]] = {
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "long double": lambda x: x.astype(np.longdouble),
    "big endian": lambda x: x.astype(">f4"),
    "Fortran order": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "read-only": frozen,
    "list": lambda x: x.tolist(),
    "tuple of arrays": tuple,
    "objects": lambda x: x.astype(object),
    "objects that are rows": rows_of_objects,
    "tensor": torch.from_numpy,
    "tensor with a gradient": lambda x: torch.from_numpy(x).requires_grad_() * 1,
    "tensor in float64": lambda x: torch.from_numpy(x).double(),
    "tensor in float16": lambda x: torch.from_numpy(x).half(),
    "list of tensors": lambda x: list(torch.from_numpy(x).requires_grad_()),
    "masked array without a mask": np.ma.array,
    "Arrow": lambda x: pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1]),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_numbers_are_the_same_vectors(kind: str) -> None:
    found = to_float32(SAME[kind](X))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, X)


def test_bfloat16_and_integers_are_converted() -> None:
    found = to_float32(torch.from_numpy(X).bfloat16())
    np.testing.assert_allclose(found, X, rtol=2**-8)
    np.testing.assert_array_equal(to_float32(np.arange(6).reshape(2, 3)), np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    "returned",
    [
        X * 1j,
        X > 0,
        X.astype(str),
        X.astype("datetime64[s]"),
        None,
        "vectors",
        [[1.0, None, 2.0]] * 6,
        [[1.0], [1.0, 2.0]],
        torch.from_numpy(X) > 0,
        torch.from_numpy(X) * 1j,
        {"vectors": X},
    ],
    ids=lambda one: f"{type(one).__name__} {getattr(one, 'dtype', '')}",
)
def test_what_is_no_numbers_is_refused(returned: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        to_float32(returned)


def test_what_float32_cannot_hold_and_what_is_masked_is_not_finite() -> None:
    assert np.isinf(to_float32(np.array([[1e39]]))).all()
    assert np.isinf(to_float32([[1e39]])).all()
    found = to_float32(np.ma.array(X, mask=np.eye(6, 3, dtype=bool)))
    np.testing.assert_array_equal(np.isnan(found), np.eye(6, 3, dtype=bool))


ROWS = pa.table({"id": range(6)})


@pytest.mark.parametrize("shape", [(6,), (6, 2), (6, 4), (3, 6), (6, 3, 1), (5, 3), ()])
def test_another_shape_is_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    vectors, refused = encode_rows(lambda _: np.ones(shape, np.float32), ROWS, 3)
    assert len(refused) == 6
    assert not vectors.any()
    assert all(f"returned shape {shape}, expected (1, 3)" in reason for _, reason in refused)


def test_a_buffer_that_is_filled_anew_does_no_harm() -> None:
    buffer = np.zeros((6, 3), np.float32)

    def encode(rows: pa.Table) -> Any:
        if rows.num_rows > 2:
            raise MemoryError
        buffer[: rows.num_rows] = rows["id"].to_numpy()[:, None]
        return buffer[: rows.num_rows]

    vectors, refused = encode_rows(encode, ROWS, 3)
    assert refused == []
    assert vectors[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_rows_without_a_vector_are_no_answers_and_none_at_all_is_an_error() -> None:
    def encode(rows: pa.Table) -> Any:
        if 4 in rows["id"].to_pylist():
            raise RuntimeError("not this one")
        return np.ones((rows.num_rows, 3))

    for found in (encode_or_nan(encode, ROWS, 3), answers(encode, ROWS, 3)):
        assert np.flatnonzero(np.isnan(found).all(axis=1)).tolist() == [4]
    with pytest.raises(EncoderError, match="not this one"):
        answers(encode, ROWS.slice(4, 1), 3)
