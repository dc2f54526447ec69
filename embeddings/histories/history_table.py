"""Tokens as the histories table: one row per member, parallel lists, and a hash that names the content."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pat

from embeddings.histories.events import TEXT_COLUMNS, Ints
from embeddings.histories.sessions import MergedEvents
from stores.schema import TIMESTAMP_TYPE, history_schema

HASH_HEX_DIGITS = 32
TOKENS_PER_CHUNK = 16_384


class TitleKeys:
    """Ids of all titles in the order of their codes, and for each 64 bits that name it in a hash."""

    def __init__(self, ids: pa.Array) -> None:
        self.ids = ids

    @cached_property
    def hash_keys(self) -> Ints:
        """The id itself where it is a number, else half of its MD5: (titles,) int64."""
        if pat.is_integer(self.ids.type):
            numbers: Ints = self.ids.to_numpy()
            return numbers
        return _text_keys(self.ids.to_pylist())


def _text_keys(texts: Sequence[str | None]) -> Ints:
    return np.array([0 if text is None else _text_key(text) for text in texts], np.int64)


def _text_key(text: str) -> int:
    digest = hashlib.md5(text.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def history_table(tokens: MergedEvents, member_ids: pa.Array, titles: TitleKeys) -> pa.Table:
    """The histories of `member_ids`, whose tokens are all there in that order: `columns.history_schema`."""
    schema = history_schema(member_ids.type, titles.ids.type)
    offsets = pa.array(tokens.starts.astype(np.int32))
    values = [
        titles.ids.take(pa.array(tokens.title)),
        _timestamps(tokens.first),
        _timestamps(tokens.last),
        pa.array(tokens.actions),
        pa.array(tokens.duration),
        pa.array(tokens.value),
        pa.array(tokens.events),
        *(tokens.texts[name].dictionary_decode() for name in TEXT_COLUMNS),
    ]
    lists = [
        pa.ListArray.from_arrays(offsets, column.cast(field.type.value_type), type=field.type)
        for column, field in zip(values, list(schema)[1:-2], strict=True)
    ]
    hashes = pa.array(history_hashes(tokens, titles), pa.string())
    return pa.table([member_ids, *lists, _timestamps(tokens.last[tokens.starts[1:] - 1]), hashes], schema=schema)


def _timestamps(micros: Ints) -> pa.Array:
    return pa.array(micros, pa.int64()).cast(TIMESTAMP_TYPE)


def history_hashes(tokens: MergedEvents, titles: TitleKeys) -> list[str]:
    """For each member the SHA-256 (first half) over its tokens, the same for the same content on every machine."""
    fields: dict[str, npt.NDArray[Any]] = {
        "title": titles.hash_keys[tokens.title],
        "first": tokens.first,
        "last": tokens.last,
        "duration": tokens.duration,
        "value": tokens.value,
        "actions": tokens.actions,
        "events": tokens.events,
        **{name: _row_keys(column) for name, column in tokens.texts.items()},
    }
    row = np.dtype([(name, column.dtype.newbyteorder("<")) for name, column in fields.items()])
    hashes: list[str] = []
    for ends in _chunk_bounds(tokens.starts):
        packed = np.empty(ends[-1] - ends[0], row)
        for name, column in fields.items():
            packed[name] = column[ends[0] : ends[-1]]
        data = memoryview(packed.view(np.uint8))  # type: ignore[arg-type]
        offsets = ((ends - ends[0]) * row.itemsize).tolist()
        hashes += [hashlib.sha256(data[begin:end]).hexdigest()[:HASH_HEX_DIGITS] for begin, end in pairwise(offsets)]
    return hashes


def _chunk_bounds(starts: Ints) -> Iterator[Ints]:
    """The bounds of members in pieces of about as many tokens as a processor's cache holds."""
    cuts = np.searchsorted(starts, np.arange(0, starts[-1], TOKENS_PER_CHUNK))
    cuts = np.unique(np.append(cuts, len(starts) - 1))
    for begin, end in pairwise(cuts.tolist()):
        yield starts[begin : end + 1]


def _row_keys(texts: pa.DictionaryArray) -> Ints:
    """The key of each text, 0 where there is none: only the distinct ones are hashed."""
    keys = np.append(_text_keys(texts.dictionary.to_pylist()), 0)
    rows: Ints = keys[texts.indices.fill_null(-1).to_numpy()]
    return rows
