"""The transform: two small matrices that take a model's native vectors into the space."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from alignment.anchors import Anchors
from alignment.second_moments import ROWS_PER_BLOCK, Matrix, Rows, as_rows, refuse_non_finite
from stores.errors import AlignmentInputError, CorruptError, MismatchError, NotFoundError

FORMAT_VERSION = 1
_SQUARED = 1e150
"""Energies above this have squares that float64 cannot hold."""
_METADATA_KEY = "samespace.alignment"
_UNSIGNED = {
    "dtype", "energy_kept", "format_version", "hash", "mode", "model_id", "rank", "ridge", "undetermined", "width"
}  # fmt: skip
"""Facts in the header of a file from before headers were signed."""
Side = Literal["members", "titles"]
SIDES: tuple[Side, Side] = ("members", "titles")


@dataclass(frozen=True, eq=False)
class AlignmentTransform:
    """`members(x)` = x·`member_map`, `titles(y)` = y·`title_map`; both maps are (e, s) float64.

    Where `lossy` is false, member_map · title_mapᵀ = I, so every score x·y is kept. `energies` (e,) are the
    energies of all canonical dimensions, of which the first `rank` are kept; `ridge` is what stage 1 added
    per side. `undetermined` is the share of the energy whose rotation the anchors left open, `moved` positions of
    the title anchors that left their place. It and the anchors that were `fitted` are not in the file.
    """

    member_map: Matrix
    title_map: Matrix
    energies: Matrix
    mode: str
    rank: int
    ridge: tuple[float, float] = (0.0, 0.0)
    model_id: str = ""
    moved: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp), compare=False)
    undetermined: float = field(default=0.0, compare=False)
    fitted: Anchors | None = field(default=None, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """What travels to workers: all but the anchors, which are many."""
        return {**self.__dict__, "fitted": None}

    @property
    def native_width(self) -> int:
        """The width e of the model."""
        return len(self.title_map)

    @property
    def width(self) -> int:
        """The width s of the space."""
        return int(self.title_map.shape[1])

    @property
    def lossy(self) -> bool:
        """Whether dimensions were dropped, so that scores are the best of their rank and no longer exact."""
        return self.rank < self.native_width

    @property
    def energy_kept(self) -> float:
        """Share of Σσ² (the squared scores) that the kept dimensions carry, 0 to 1; 1 where there are none."""
        energies = self.energies
        if energies.max(initial=0.0) > _SQUARED:  # only then: old files are named by the bits of this figure
            energies = energies / energies.max()
        energy = float((energies**2).sum())
        return float((energies[: self.rank] ** 2).sum()) / energy if energy > 0 else 1.0

    @property
    def hash(self) -> str:
        """SHA-256 that names the artifact: model, mode, maps and their dtype. Indexes are built for one hash."""
        digest = hashlib.sha256(json.dumps(self._header(), sort_keys=True).encode())
        for tensor in (self.member_map, self.title_map, self.energies):
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()

    def members(self, x: Rows) -> Rows:
        """Members (n, e) → (n, s), computed in float64, returned in the dtype given.

        Raises AlignmentError where rows are not finite (by position), AlignmentInputError for other kinds and shapes,
        MismatchError for another width.
        """
        return self._finite(x, self.member_map, "members")

    def titles(self, y: Rows) -> Rows:
        """Titles (m, e) → (m, s), computed in float64, returned in the dtype given. Raises as `members`."""
        return self._finite(y, self.title_map, "titles")

    def apply(self, x: Rows, side: Side) -> Rows:
        """As `members` or `titles`, but rows that are not finite stay so: a night's gate names them."""
        with np.errstate(invalid="ignore", over="ignore"):
            return self._apply(x, self.member_map if side == "members" else self.title_map, side)

    def _finite(self, x: Rows, M: Matrix, what: str) -> Rows:
        x = as_rows(x, what)
        refuse_non_finite(x, what)
        return self._apply(x, M, what)

    def inverse(self) -> "AlignmentTransform":
        """The way back, from the space to native vectors: W M_W · M_Tᵀ = W, for M_W M_Tᵀ = I.

        Where the transform is lossy this gives the part of a native vector that was kept; scores of what comes back are
        those of the space in any case.
        """
        return AlignmentTransform(
            member_map=self.title_map.T,
            title_map=self.member_map.T,
            energies=self.energies[: self.rank],
            mode=self.mode,
            rank=self.rank,
            model_id=self.model_id,
        )

    def fold(self, weight: Rows, bias: Rows | None = None, *, side: Side = "members") -> tuple[Rows, Rows | None]:
        """Multiply the map into a last linear layer h·L + b: L' = L·M (and b' = b·M), same dtypes.

        `weight` L is (h, e), i.e. `linear.weight.T` of PyTorch; returns (h, s) and (s,). Where the tower
        ends in an L2-norm, export the map itself as one more layer after the norm instead: `fold(eye(e))`.
        """
        if side not in SIDES:
            raise AlignmentInputError(f"side is {side!r}", expected=f"one of {', '.join(SIDES)}")
        M = self.member_map if side == "members" else self.title_map
        folded_bias = None if bias is None else self._finite(np.asarray(bias)[None, ...], M, "bias")[0]
        return self._finite(weight, M, "weight"), folded_bias

    def _apply(self, x: Rows, M: Matrix, what: str = "vectors") -> Rows:
        x = as_rows(x, what)
        if x.shape[1] != len(M):
            raise MismatchError(f"vectors are {x.shape[1]} wide, the transform was fitted for {len(M)}")
        out = np.empty((len(x), M.shape[1]), dtype=x.dtype)
        size = min(ROWS_PER_BLOCK, len(x))
        wide, product = np.empty((size, len(M))), np.empty((size, M.shape[1]))
        for start in range(0, len(x), ROWS_PER_BLOCK):
            rows = min(ROWS_PER_BLOCK, len(x) - start)
            wide[:rows] = x[start : start + rows]
            out[start : start + rows] = np.matmul(wide[:rows], M, out=product[:rows])
        return out

    # --- the file

    def to_bytes(self) -> bytes:
        """The artifact as safetensors; the same transform always gives the same bytes."""
        facts = {"hash": self.hash, "undetermined": self.undetermined, "format_version": FORMAT_VERSION}
        header = _with_digest({**self._header(), **facts})
        tensors = {"member_map": self.member_map, "title_map": self.title_map, "energies": self.energies}
        contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        # One metadata key: the order of several is not fixed by the format's writer.
        return bytes(save(contiguous, metadata={_METADATA_KEY: _text(header)}))

    def save(self, path: str | Path) -> None:
        """Write the artifact to a file; its folder is made where there is none."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: str | Path) -> "AlignmentTransform":
        """Read what `save` wrote, bit for bit. Raises NotFoundError, and as `from_bytes`."""
        if not Path(path).exists():
            raise NotFoundError("there is no saved transform", where=str(path))
        return cls.from_bytes(Path(path).read_bytes(), where=str(path))

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "transform.safetensors") -> "AlignmentTransform":
        """Read an artifact. Raises CorruptError where it is none, of another version, or not the bytes written."""
        try:
            tensors, text = load(data), _read_metadata(data)
            header: dict[str, Any] = json.loads(text)
            version = header["format_version"]
            if version != FORMAT_VERSION:
                expected = str(FORMAT_VERSION)
                raise CorruptError(f"transform has format version {version}", where=where, expected=expected)
            # A flip in the name of the signature must not make a signed header one from before there were signatures.
            signed = "signature" in header or not set(header) <= _UNSIGNED
            if signed and text != _text(_with_digest(header)):
                raise CorruptError("the header of the transform is not the one that was written", where=where)
            loaded = cls(
                **tensors,
                mode=header["mode"],
                rank=header["rank"],
                ridge=(header["ridge"][0], header["ridge"][1]),
                model_id=header["model_id"],
                undetermined=header.get("undetermined", 0.0),
            )
        except (SafetensorError, KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise CorruptError(f"not a saved transform: {error}", where=where) from error
        if loaded.hash != header.get("hash"):
            raise CorruptError(f"transform has hash {loaded.hash}", where=where, expected=str(header.get("hash")))
        return loaded

    def _header(self) -> dict[str, Any]:
        """Everything but the matrices; width and energy are there for people who look into the file."""
        return {
            "mode": self.mode,
            "rank": self.rank,
            "width": self.width,
            "ridge": list(self.ridge),
            "energy_kept": self.energy_kept,
            "model_id": self.model_id,
            "dtype": str(self.title_map.dtype),
        }


def _text(header: dict[str, Any]) -> str:
    """The header as it is written; JSON has no word for what is not finite, so that is refused."""
    return json.dumps(header, sort_keys=True, allow_nan=False)


def _with_digest(header: dict[str, Any]) -> dict[str, Any]:
    """The header with a hash over all the rest of it."""
    facts = {name: value for name, value in header.items() if name != "signature"}
    return {**facts, "signature": hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()}


def _read_metadata(data: bytes) -> str:
    """Our JSON in the header of a safetensors file (8 bytes of length, then JSON)."""
    length = int.from_bytes(data[:8], "little")
    text = json.loads(data[8 : 8 + length])["__metadata__"][_METADATA_KEY]
    return str(text)
