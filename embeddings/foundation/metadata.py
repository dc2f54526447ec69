"""Title metadata as arrays: value codes per field, content vectors, and the signals that set how ids are trusted."""

import zlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.foundation.config import FoundationConfig
from stores import schema
from stores.settings import Settings

NUM_SIGNALS = 4
"""log1p(days since launch), log1p(plays), whether before the launch, whether the launch is unknown."""
PLAYS_SIGNAL = 1
"""Which of the signals tells the plays."""
_MAX_VALUES_PER_TITLE = 8
_MAX_VALUES_PER_FIELD = 4096
_WORD_SEPARATOR = r"[^\p{L}\p{N}]+"


class MetadataVocabulary(Settings):
    """The values known of each field; code 0 means none, so a value never seen says nothing.

    `text` has no list of values: its words are hashed into `words` buckets.
    """

    values: dict[str, tuple[str, ...]]
    words: int
    words_per_title: int
    content_dim: int

    @classmethod
    def build(
        cls, catalogue: pa.Table, config: FoundationConfig, whole: pa.Table | None = None
    ) -> "MetadataVocabulary":
        """The values of the configured fields that are not empty in a catalogue of known titles.

        The width of content vectors is that of `whole`, the catalogue with the titles that nobody has met yet
        (default: the same), and 0 where no known title has such a vector: nothing could be learned of it.
        """
        network = config.network
        fields = config.fields if network.metadata else ()
        values = {field: _distinct(_lists(catalogue, field)) for field in fields if field != "text"}
        width = content_width(catalogue if whole is None else whole) if network.content else 0
        return cls(
            values={field: found for field, found in values.items() if found},
            words=network.text_hash_buckets
            if "text" in fields and catalogue["text"].null_count < len(catalogue)
            else 0,
            words_per_title=network.max_words_per_title,
            content_dim=width if width in content_widths(catalogue) else 0,
        )

    def layout(self) -> list[tuple[int, int]]:
        """Per field, in the order of the columns of `codes`: (columns, values including none)."""
        blocks = [
            (_MAX_VALUES_PER_TITLE if field == "genres" else 1, len(found) + 1) for field, found in self.values.items()
        ]
        return blocks + ([(self.words_per_title, self.words + 1)] if self.words else [])

    def field_columns(self) -> dict[str, slice]:
        """The columns of `codes` that hold each field with listed values."""
        ends = np.cumsum([columns for columns, _ in self.layout()]).tolist()
        return {field: slice(begin, end) for field, begin, end in zip(self.values, [0, *ends], ends, strict=False)}

    def codes(self, catalogue: pa.Table) -> npt.NDArray[np.int64]:
        """(m, columns) value codes, 0 where there is none or it is not known."""
        blocks = []
        for (slots, _), (field, known) in zip(self.layout(), self.values.items(), strict=False):
            lists = _lists(catalogue, field)
            found = pc.fill_null(pc.index_in(lists.flatten(), value_set=pa.array(known, pa.string())), -1)
            blocks.append(_padded(lists, found.to_numpy(zero_copy_only=False) + 1, slots))
        if self.words:
            lists = _lists(catalogue, "text")
            blocks.append(_padded(lists, _hashed(lists.flatten(), self.words), self.words_per_title))
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(catalogue), 0), np.int64)

    def content(self, catalogue: pa.Table) -> npt.NDArray[np.float32]:
        """(m, content_dim) unit content vectors; zero where a title has none, or none that is finite and of this width.

        A catalogue in which no title has the width is refused by `content_fault`, not here: a title is encoded alike
        whatever stands beside it.
        """
        result = np.zeros((len(catalogue), self.content_dim), np.float32)
        if not self.content_dim:
            return result
        vectors = catalogue[schema.EMBEDDING].combine_chunks()
        fits = np.asarray(pc.fill_null(pc.equal(pc.list_value_length(vectors), self.content_dim), False))
        flat = vectors.filter(pa.array(fits)).flatten().to_numpy(zero_copy_only=False)
        rows = np.asarray(flat, dtype=np.float32).reshape(-1, self.content_dim)
        finite = np.isfinite(rows).all(axis=1)
        result[np.flatnonzero(fits)[finite]] = _units(rows[finite])
        return result

    def content_fault(self, catalogue: pa.Table) -> tuple[str, bool]:
        """What a catalogue's content vectors lack of what was learned with, and whether no title can be read.

        The sentence is empty where every vector has the width, and where the model reads none.
        """
        widths = content_widths(catalogue) if self.content_dim else {}
        fitting, others = widths.pop(self.content_dim, 0), sum(widths.values())
        if not self.content_dim or (fitting and not others):
            return "", False
        wanted = f"the model was trained with content vectors of width {self.content_dim}"
        if not others:
            return f"{wanted}, and no title has any", False
        found = f"{others:,} of {len(catalogue):,} titles have other widths ({', '.join(map(str, sorted(widths)))})"
        return f"{wanted}, and {found}", not fitting


def _units(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(n, d) finite vectors at length one; zeros stay zeros."""
    largest = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    extreme = (largest > 1e15) | (largest < 1e-15)  # the squares would leave what float32 can hold
    scaled = np.where(extreme, rows / np.where(largest > 0, largest, 1.0), rows)
    units: npt.NDArray[np.float32] = scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
    return units


def content_widths(catalogue: pa.Table) -> dict[int, int]:
    """How many titles have a content vector of each width; empty vectors and nulls are none."""
    counted = pc.value_counts(pc.list_value_length(catalogue[schema.EMBEDDING]).combine_chunks())
    widths = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    return {width: count for width, count in widths if width}


def content_width(catalogue: pa.Table) -> int:
    """The width that most content vectors of a catalogue have, of two as frequent the larger; 0 where it has none."""
    widths = content_widths(catalogue)
    return max(widths, key=lambda width: (widths[width], width), default=0)


def trust_signals(catalogue: pa.Table) -> npt.NDArray[np.float32]:
    """(m, SIGNALS) float32 from `age_days` and `plays`; logarithms are scaled to about one.

    An age that is not finite is an unknown one, and plays that are not known, not finite or below zero are none.
    """
    age = catalogue["age_days"].to_numpy().astype(np.float64)
    plays = catalogue["plays"].to_numpy().astype(np.float64)
    plays = np.where(np.isfinite(plays) & (plays > 0), plays, 0.0)
    unknown = ~np.isfinite(age)
    known = np.where(unknown, 0.0, age)
    stacked = [np.log1p(np.maximum(known, 0)) / 10, np.log1p(plays) / 10, known < 0, unknown]
    return np.stack([column.astype(np.float32) for column in stacked], axis=1)


def _lists(catalogue: pa.Table, field: str) -> pa.ListArray:
    """One list of strings per title, empty where there is nothing."""
    if field == "year":
        column = pc.year(catalogue["launch_time"])
    elif field == "text":
        column = pc.split_pattern_regex(pc.utf8_lower(catalogue["text"]), _WORD_SEPARATOR)
    else:
        column = catalogue[field]
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_list(column.type):
        return column
    lengths = np.asarray(column.is_valid()).astype(np.int32)
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), column.drop_null().cast(pa.string()))


def _distinct(lists: pa.ListArray) -> tuple[str, ...]:
    """Values that at least two titles share, most frequent first; a value of one title says no more than its id."""
    counts = pc.value_counts(lists.flatten().drop_null())
    table = pa.table({"value": counts.field("values"), "count": counts.field("counts")})
    table = table.filter(pc.greater(table["count"], 1)).sort_by([("count", "descending"), ("value", "ascending")])
    return tuple(table["value"][:_MAX_VALUES_PER_FIELD].to_pylist())


def _padded(lists: pa.ListArray, codes: npt.NDArray[np.int64], slots: int) -> npt.NDArray[np.int64]:
    """(m, slots): the first codes of each list, 0 after its end."""
    result = np.zeros((len(lists), slots), np.int64)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
    owner = np.repeat(np.arange(len(lists)), lengths)
    position = np.arange(len(codes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = position < slots
    result[owner[kept], position[kept]] = codes[kept]
    return result


def _hashed(words: pa.Array, buckets: int) -> npt.NDArray[np.int64]:
    """A stable bucket from 1 to `buckets` per word; 0 for an empty one."""
    encoded = words.dictionary_encode()
    known = [zlib.crc32(word.encode()) % buckets + 1 if word else 0 for word in encoded.dictionary.to_pylist()]
    codes: npt.NDArray[np.int64] = np.asarray(known, np.int64)[np.asarray(encoded.indices)]
    return codes
