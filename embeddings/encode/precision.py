"""In which precision a model encodes: the fast one where its vectors are as good as those of the exact one."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embeddings.encode.bisection import encode_or_nan
from embeddings.encode.config import EncodeConfig
from embeddings.encode.encoder import Encoder, Vectors
from stores.settings import Settings

MAX_SAMPLE_HISTORIES = 256
"""Members that are encoded both ways."""
_TOP_K, _EQUAL_TOLERANCE = 10, 1e-6


@runtime_checkable
class TunableEncoder(Encoder, Protocol):
    """An encoder that can run in more than one precision and on more than one device."""

    fast_precision: str

    def with_precision(self, precision: str, device: str) -> Encoder:
        """The same model with linear layers in "fp32" or "bf16", on "cpu" or "cuda"."""
        ...


class PrecisionChoice(Settings):
    """What was chosen and what was seen: the smallest cosine, the share of the top ten titles that stayed.

    `spread` is how far a member's vector moves, at most, when other members are encoded beside it.
    """

    name: str
    why: str
    cosine: float | None = None
    overlap: float | None = None
    spread: float | None = None


def choose_precision(config: EncodeConfig, encoder: Any, histories: pa.Table, titles: pa.Table) -> PrecisionChoice:
    """Compare both precisions on at most SAMPLE of the histories, ranking at most 20,000 of the titles."""
    if not isinstance(encoder, TunableEncoder):
        return PrecisionChoice(name="own", why="the encoder has its own precision")
    if config.precision != "auto":
        return PrecisionChoice(name=config.precision, why="configured")
    if encoder.fast_precision == "fp32" or not histories.num_rows:
        return PrecisionChoice(name="fp32", why="the hardware is fastest at it")
    device = device_of(config)
    sample = histories.take(np.unique(np.linspace(0, histories.num_rows - 1, MAX_SAMPLE_HISTORIES).astype(np.int64)))
    fast, every = encoder.with_precision("bf16", device), np.arange(sample.num_rows)
    exact, reduced = _of(encoder.with_precision("fp32", device), sample, every), _of(fast, sample, every)
    again = _of(fast, sample, every[::3])
    sound = np.isfinite(np.concatenate([exact, reduced], axis=1)).all(axis=1)
    twice = np.isfinite(np.concatenate([exact[::3], reduced[::3], again], axis=1)).all(axis=1)
    if not twice.any():
        return PrecisionChoice(name="fp32", why="the model fails on all members of the sample")
    spread = float(np.abs(again - reduced[::3])[twice].max())
    some = encode_or_nan(encoder.encode_titles, titles.slice(0, 20_000), encoder.dim)
    some = some[np.isfinite(some).all(axis=1)]
    cosine, overlap = _cosine(exact[sound], reduced[sound]), _overlap(exact[sound], reduced[sound], some)
    good = cosine >= config.min_cosine and overlap >= config.min_overlap and spread <= _EQUAL_TOLERANCE
    why = "its vectors agree with those of fp32" if good else "the vectors of bf16 are not good enough"
    return PrecisionChoice(name="bf16" if good else "fp32", why=why, cosine=cosine, overlap=overlap, spread=spread)


def _of(encoder: Encoder, sample: pa.Table, rows: npt.NDArray[np.int64]) -> Vectors:
    """(rows, dim) vectors of some of the sample, NaN where the model fails."""
    return encode_or_nan(encoder.encode_members, sample.take(rows), encoder.dim)


def device_of(config: EncodeConfig) -> str:
    """Where workers compute: on a GPU if they are given one."""
    return "cuda" if config.gpus_per_worker else "cpu"


def _cosine(x: Vectors, y: Vectors) -> float:
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(((x * y).sum(axis=1) / np.maximum(lengths, 1e-30)).min())


def _overlap(x: Vectors, y: Vectors, titles: Vectors) -> float:
    k = min(_TOP_K, len(titles))
    if not k:
        return 1.0
    tops = [np.argpartition(-(rows @ titles.T), k - 1, axis=1)[:, :k] for rows in (x, y)]
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(*tops, strict=True)]))
