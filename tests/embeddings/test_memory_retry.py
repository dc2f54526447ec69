"""What did not fit into memory is tried in halves, and nothing of the failed attempt is held meanwhile."""

import weakref

import numpy as np
import pyarrow as pa
import pytest
import torch

from embeddings.encode.bisection import encode_in_halves, encode_rows, is_out_of_memory


class Tensors:
    """Stands for a device: each attempt holds one block in its frames, which a failure leaves to the exception."""

    class Block:
        pass

    def __init__(self, most: int, error: Exception, cyclic: bool = False) -> None:
        self.most, self.error, self.cyclic = most, error, cyclic
        self.blocks: weakref.WeakSet[Tensors.Block] = weakref.WeakSet()
        self.alive: list[int] = []
        self.done: list[int] = []

    def encode(self, rows: np.ndarray) -> None:
        self.alive.append(len(self.blocks))
        block = self.Block()
        self.blocks.add(block)
        if self.cyclic:
            block.itself = block  # type: ignore[attr-defined]
        if len(rows) > self.most:
            self._fail(block)
        self.done += rows.tolist()

    def _fail(self, block: "Tensors.Block") -> None:
        raise type(self.error)(*self.error.args)


CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
ERRORS = [torch.OutOfMemoryError("no room"), MemoryError("no room"), CPU]


@pytest.mark.parametrize("error", ERRORS, ids=["device", "python", "host"])
@pytest.mark.parametrize("cyclic", [False, True])
def test_nothing_of_a_failed_attempt_is_held_by_the_next(error: Exception, cyclic: bool) -> None:
    tensors = Tensors(3, error, cyclic)
    encode_in_halves(tensors.encode, np.arange(12))
    assert tensors.done == list(range(12))
    assert len(tensors.alive) == 7
    # a block that succeeded and is part of a cycle stays until Python looks for cycles; none of a failed one does
    assert set(tensors.alive[:3]) == {0}
    if not cyclic:
        assert set(tensors.alive) == {0}


def test_one_row_that_never_fits_is_a_memory_error_that_holds_nothing() -> None:
    tensors = Tensors(0, torch.OutOfMemoryError("no room"))
    with pytest.raises(MemoryError, match="one member") as caught:
        encode_in_halves(tensors.encode, np.arange(8))
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert len(tensors.blocks) == 0


def test_other_errors_are_no_lack_of_memory() -> None:
    tensors = Tensors(3, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        encode_in_halves(tensors.encode, np.arange(8))
    assert len(tensors.alive) == 1
    with pytest.raises(RuntimeError) as real:
        torch.empty(10**15)
    assert is_out_of_memory(real.value)
    with pytest.raises(MemoryError) as numpys:
        np.empty(10**15)
    assert is_out_of_memory(numpys.value)
    assert not is_out_of_memory(ValueError("can't allocate memory"))


@pytest.mark.parametrize("error", ERRORS, ids=["device", "python", "host"])
def test_an_own_encoder_is_tried_in_halves_with_nothing_held(error: Exception) -> None:
    tensors = Tensors(3, error, cyclic=True)

    def encode(rows: pa.Table) -> np.ndarray:
        tensors.encode(rows["id"].to_numpy())
        return np.zeros((rows.num_rows, 2), np.float32)

    vectors, refused = encode_rows(encode, pa.table({"id": range(8)}), 2)
    assert vectors.shape == (8, 2)
    assert refused == []
    assert tensors.alive[:3] == [0, 0, 0]
