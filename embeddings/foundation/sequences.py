"""Histories as flat arrays of positions, and windows of them as padded batches.

A member of n tokens has positions 0 … n. Position t carries the post-action features of token t − 1
(position 0: the start), the request-time features of token t, and has the title of token t as its
target (position n: none). So nothing at a position is known later than the request it stands for.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from embeddings.foundation.vocabulary import CONTEXTS, Vocabulary
from stores import schema

POST_COLUMNS = ("value", "share", "pause")
REQUEST_COLUMNS = ("hour", "weekday", *CONTEXTS, "gap")
NUM_GAP_CODES = 34
"""Buckets of a time: 0 for unknown, then 1 + ⌊log₂(1 + seconds)⌋."""
_NUM_SHARE_CODES = 10
NO_TARGET = -1
_CODES = np.dtype([("post", f"V{4 * len(POST_COLUMNS)}"), ("request", f"V{4 * len(REQUEST_COLUMNS)}")])
"""The codes of a position, int32, as two pieces that are copied whole: half the time of copying number by number."""

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]


def code_sizes(vocabulary: Vocabulary) -> list[int]:
    """Codes of each of POST + REQUEST, in that order; code 0 is UNKNOWN."""
    contexts = [len(vocabulary.contexts[name]) + 2 for name in CONTEXTS]
    return [len(vocabulary.levels) + 2, _NUM_SHARE_CODES + 2, NUM_GAP_CODES, 25, 8, *contexts, NUM_GAP_CODES]


@dataclass(frozen=True)
class PastBatch:
    """What lies before windows, (b, m): rows of titles, log₂ buckets of how long before, which of them are there."""

    titles: torch.Tensor
    ages: torch.Tensor
    valid: torch.Tensor

    def to(self, device: torch.device) -> "PastBatch":
        """The same on a device."""
        return PastBatch(self.titles.to(device), self.ages.to(device), self.valid.to(device))


@dataclass(frozen=True)
class Batch:
    """Windows padded on the right to (b, l). `valid` marks positions that are there."""

    titles: torch.Tensor
    targets: torch.Tensor
    codes: torch.Tensor
    actions: torch.Tensor
    times: torch.Tensor
    valid: torch.Tensor
    weights: torch.Tensor
    tenths: torch.Tensor
    """Code of the share that was watched of the target, 0 where it is not known."""
    past: PastBatch | None = None
    """For models with latents alone."""

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        there: dict[str, Any] = {name: None if part is None else part.to(device) for name, part in parts.items()}
        return Batch(**there)


@dataclass(frozen=True)
class TokenSequences:
    """All positions of all members, one after the other: member m has positions starts[m] … starts[m + 1] − 1."""

    starts: Ints
    titles: Ints
    """Row of the title before each position."""
    targets: Ints
    """Row of the title that came next; NO_TARGET where none did or it is not known."""
    codes: Codes
    """(positions, len(POST) + len(REQUEST))."""
    actions: Ints
    """Bit set of the actions before each position."""
    times: Ints
    """Second of the last event before each position; at position 0 that of the first token."""
    weights: npt.NDArray[np.float32]
    """How much each target counts."""

    @property
    def lengths(self) -> Ints:
        """Tokens per member."""
        return np.diff(self.starts) - 1

    @classmethod
    def of(cls, histories: pa.Table, vocabulary: Vocabulary, longest: int | None = None) -> "TokenSequences":
        """The positions of histories (`columns.history_schema`), members in the order of the rows.

        Of each member only the `longest` last tokens are looked at, where that is given.
        """
        histories = histories if longest is None else _keep_last_tokens(histories, longest)
        lists = {name: histories[name].combine_chunks() for name in histories.column_names}
        lengths = np.asarray(pc.fill_null(pc.list_value_length(lists[schema.TITLE_ID]), 0), dtype=np.int64)
        starts = np.append(0, np.cumsum(lengths + 1))
        total, owner = int(starts[-1]), np.repeat(np.arange(len(lengths)), lengths)
        request_at = np.arange(len(owner)) + owner
        after = request_at + 1
        flat = {name: array.flatten() for name, array in lists.items() if pa.types.is_list(array.type)}
        rows = vocabulary.rows(flat[schema.TITLE_ID])
        first, last = _seconds(flat["first_time"]), _seconds(flat["last_time"])
        times = _scatter(total, after, last, 0)
        begun = starts[:-1][lengths > 0]
        times[begun] = first[(np.cumsum(lengths) - lengths)[lengths > 0]]
        before = times.take(request_at)
        post = _post_codes(flat, rows, vocabulary, gap_codes(last - before))
        request = _request_codes(flat, first, vocabulary, gap_codes(first - before))
        codes = _codes(total, (after, post), (request_at, request))
        codes[begun, -1] = 0
        return cls(
            starts=starts,
            titles=_scatter(total, after, rows, vocabulary.start),
            targets=_scatter(total, request_at, np.where(rows > 0, rows, NO_TARGET), NO_TARGET),
            codes=codes,
            actions=_scatter(total, after, np.asarray(flat["actions"], dtype=np.int64), 0),
            times=times,
            weights=np.ones(total, np.float32),
        )

    def windows(self, first: Ints, lengths: Ints) -> Batch:
        """The windows that begin at positions `first` (in all positions) and are `lengths` long."""
        step = np.arange(int(lengths.max()))
        valid = step[None, :] < lengths[:, None]
        index = np.where(valid, first[:, None] + step[None, :], first[:, None])
        return Batch(
            titles=torch.from_numpy(self.titles[index]),
            targets=torch.from_numpy(np.where(valid, self.targets[index], NO_TARGET)),
            codes=torch.from_numpy(self.codes[index]),
            actions=torch.from_numpy(self.actions[index]),
            times=torch.from_numpy(self.times[index]),
            valid=torch.from_numpy(valid),
            weights=torch.from_numpy(self.weights[index]),
            tenths=torch.from_numpy(
                self.codes[np.minimum(index + 1, len(self.codes) - 1), POST_COLUMNS.index("share")]
            ).long(),
        )


def _keep_last_tokens(histories: pa.Table, longest: int) -> pa.Table:
    """Histories without what is older than the last `longest` tokens of each member."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(histories[schema.TITLE_ID]), 0), dtype=np.int64)
    if not (lengths > longest).any():
        return histories
    kept = np.minimum(lengths, longest)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    recent = pa.array(np.arange(len(owners)) >= (np.cumsum(lengths) - kept)[owners])
    offsets = pa.array(np.append(0, np.cumsum(kept)).astype(np.int32))
    for position, field in enumerate(histories.schema):
        if pa.types.is_list(field.type):
            flat = pc.list_flatten(histories[field.name].combine_chunks()).filter(recent)
            histories = histories.set_column(position, field, pa.ListArray.from_arrays(offsets, flat, type=field.type))
    return histories


def gap_codes(seconds: Ints) -> Ints:
    """Log₂ bucket of a time span, from 1 to GAPS − 1; negative spans count as none."""
    whole = np.maximum(seconds, 0).astype(np.float64) + 1.0
    # The exponent is the logarithm rounded down.
    buckets: Ints = np.minimum((whole.view(np.int64) >> 52) - 1022, NUM_GAP_CODES - 1)
    return buckets


def _codes(total: int, post: tuple[Ints, Codes], request: tuple[Ints, Codes]) -> Codes:
    """(positions, len(POST) + len(REQUEST)): at the positions given with them both pieces, elsewhere 0."""
    pieces = np.zeros(total, _CODES)
    for name, (where, codes) in (("post", post), ("request", request)):
        pieces[name][where] = codes.view(_CODES[name]).ravel()
    joined: Codes = pieces.view(np.int32).reshape(total, len(POST_COLUMNS) + len(REQUEST_COLUMNS))
    return joined


def _scatter(total: int, where: Ints, values: Ints, fill: int) -> Ints:
    result = np.full(total, fill, np.int64)
    result[where] = values
    return result


def _seconds(times: pa.Array) -> Ints:
    return np.asarray(times.cast(pa.int64()), dtype=np.int64) // 1_000_000


def _post_codes(flat: dict[str, pa.Array], rows: Ints, vocabulary: Vocabulary, pause: Ints) -> Codes:
    """Codes of what is known after a token: level of its value, share of the runtime, pause before it."""
    codes = np.empty((len(rows), len(POST_COLUMNS)), np.int32)
    codes[:, 0] = _value_level(flat[schema.VALUE], vocabulary)
    codes[:, 1] = _watched_tenth(flat[schema.DURATION], vocabulary.known_runtimes.take(rows))
    codes[:, 2] = pause
    return codes


def _value_level(column: pa.Array, vocabulary: Vocabulary) -> npt.NDArray[np.uint8]:
    """1 + the number of edges that a value reaches, 0 where there is none that is finite."""
    value = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    known = np.isfinite(value)
    level: npt.NDArray[np.uint8] = known.astype(np.uint8)
    for edge in vocabulary.levels:
        level += value >= edge
    return level if known.all() else level * known


def _watched_tenth(column: pa.Array, runtime: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """1 + the whole tenths of a runtime (NaN where unknown) that were watched, 0 where that is not known."""
    duration = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    share = np.minimum(duration, runtime) / runtime
    return np.where((duration > 0) & (duration < np.inf) & (share == share), np.floor(1 + _NUM_SHARE_CODES * share), 0)


def _request_codes(flat: dict[str, pa.Array], first: Ints, vocabulary: Vocabulary, gap: Ints) -> Codes:
    """Codes of what is known when a request comes: its hour, weekday, contexts and the gap since the last token."""
    codes = np.empty((len(first), len(REQUEST_COLUMNS)), np.int32)
    hours = first // 3600
    days = hours // 24
    codes[:, 0] = 1 + hours - 24 * days
    codes[:, 1] = 1 + (days + 3) % 7
    for column, name in enumerate(CONTEXTS, 2):
        codes[:, column] = _context_codes(flat[name], vocabulary.contexts[name])
    codes[:, -1] = gap
    return codes


def _context_codes(values: pa.Array, known: tuple[str, ...]) -> Ints:
    """0 for null, 1 for a value that is not known, then the known ones; values may be codes of a dictionary."""
    if pa.types.is_dictionary(values.type):
        codes: Ints = np.append(_context_codes(values.dictionary, known), 0)
        return codes.take(np.asarray(pc.fill_null(values.indices, -1), dtype=np.int64))
    found = pc.index_in(values, value_set=pa.array(known, pa.string()))
    codes = np.asarray(pc.fill_null(found, -1), dtype=np.int64) + 2
    return np.where(np.asarray(values.is_null()), 0, codes)
