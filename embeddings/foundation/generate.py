"""The next k titles of each member, one after the other: a short session as the model expects it.

Each title that is chosen becomes a token of the history: met at once, in the way that the last one was (its actions and
value), in a request of which nothing is known. Keys and values of earlier positions are kept, so that a step costs one
position instead of the whole history; the titles are those that encoding the grown histories anew would give.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.nn import functional

from embeddings.foundation.checkpoint import Checkpoint
from embeddings.foundation.encode import title_vectors
from embeddings.foundation.evaluation_queries import EventTable
from embeddings.foundation.model import FoundationModel, select_past
from embeddings.foundation.network import Transformer
from embeddings.foundation.sequences import NO_TARGET, POST_COLUMNS, Batch, TokenSequences, gap_codes
from stores import schema
from stores.errors import UsageError

_BATCH_TOKENS = 16_384
_MAX_SCORE_CELLS = 8_000_000
_PAUSE_COLUMN = POST_COLUMNS.index("pause")
_ZERO_GAP_CODE = int(gap_codes(np.zeros(1, np.int64))[0])

Ints = npt.NDArray[np.int64]
PickTitle = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Of (b, dim) members, (m, dim) titles with the temperature in them, and which are met (b, m): (b,) scores, rows."""


@dataclass(frozen=True)
class GeneratedSessions:
    """The next k titles of n members, in order: (n, k) rows of the catalogue, and their (n, k) float32 logits."""

    titles: Ints
    scores: npt.NDArray[np.float32]


@torch.no_grad()
def next_titles(
    trained: Checkpoint,
    histories: pa.Table,
    catalogue: pa.Table,
    count: int,
    cached: bool = True,
    pick: PickTitle | None = None,
) -> GeneratedSessions:
    """The `count` titles of a catalogue that each member meets next, none of which it had met before.

    Where a member has met them all, −1 with a score of −∞. Of a history so much is seen as leaves room for the session
    in the model's window. Without `cached` every step encodes the grown histories anew: the same titles, slower.
    `pick` chooses by other means than the scores.
    Raises UsageError for a `count` below one or beyond the window.
    """
    model, vocabulary = trained.model.eval(), trained.vocabulary
    if not 1 <= count <= model.length:
        raise UsageError(f"a session of {count} titles", expected=f"1 to {model.length}, the model's window")
    vectors = torch.from_numpy(title_vectors(model, vocabulary, catalogue)) * model.scale
    rows = torch.from_numpy(vocabulary.rows(catalogue[schema.TITLE_ID]))
    titles, scores = np.zeros((len(histories), count), np.int64), np.zeros((len(histories), count), np.float32)
    for members in _length_batches(histories, model.length, len(catalogue)):
        part = histories.take(members)
        tokens, choose = (
            TokenSequences.of(part, vocabulary),
            TitlePicker(vectors, rows, seen_titles(part, catalogue), pick or best_unseen),
        )
        ends = TrailingWindows.of(tokens, model.length - count + 1)
        (_decode_with_cache if cached else _decode_without_cache)(model, tokens, ends, choose, count)
        titles[members] = torch.stack(choose.titles, dim=1).numpy()
        scores[members] = torch.stack(choose.scores, dim=1).numpy()
    return GeneratedSessions(titles, scores)


def best_unseen(members: torch.Tensor, vectors: torch.Tensor, met: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The score and the row of the best title that each member has not met."""
    score, row = (members @ vectors.T).masked_fill_(met, float("-inf")).max(dim=1)
    return score, row


class TitlePicker:
    """Takes the title that is picked for each of b members; what was taken is met from then on."""

    def __init__(self, vectors: torch.Tensor, rows: torch.Tensor, met: torch.Tensor, pick: PickTitle) -> None:
        self.vectors, self.rows, self.met, self.pick = vectors, rows, met, pick
        self.titles: list[torch.Tensor] = []
        self.scores: list[torch.Tensor] = []

    def __call__(self, members: torch.Tensor) -> torch.Tensor:
        """(b, dim) vectors of members to (b,) vocabulary rows of the titles taken."""
        score, row = self.pick(members, self.vectors, self.met)
        self.met[torch.arange(len(row)), row] = True
        self.titles.append(torch.where(score.isfinite(), row, -1))
        self.scores.append(score)
        return self.rows[row]


class KVCache:
    """The keys and values of one block's positions so far, (b, heads, l, width / heads) each."""

    def __init__(self) -> None:
        self.kept: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep those of new positions; all up to them."""
        if self.kept is not None:
            k, v = torch.cat([self.kept[0], k], dim=2), torch.cat([self.kept[1], v], dim=2)
        self.kept = k, v
        return k, v


class CachedTransformer:
    """A transformer over a batch that grows: each position passes through the blocks once."""

    def __init__(self, transformer: Transformer) -> None:
        self.transformer, self.memories = transformer, [KVCache() for _ in transformer.blocks]
        self.times: list[torch.Tensor] = []
        self.valid: list[torch.Tensor] = []

    def __call__(self, x: torch.Tensor, times: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """(b, q, width) of new positions, their (b, q) seconds and which of them are there, to states (b, q, width)."""
        self.times.append(times)
        self.valid.append(valid)
        keys, there = torch.cat(self.times, dim=1), torch.cat(self.valid, dim=1)
        later = torch.ones(x.shape[1], keys.shape[1], dtype=torch.bool).triu(1 + keys.shape[1] - x.shape[1])
        hidden = later | ~there[:, None, :]
        if self.transformer.time is not None:
            bias = self.transformer.time.between(times, keys, hidden)
        else:
            bias = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))[:, None]
        for block, memory in zip(self.transformer.blocks, self.memories, strict=True):
            x = block(x, bias, memory)
        return x


@dataclass(frozen=True)
class TrailingWindows:
    """The windows that n histories end with; they keep their first positions while the histories grow."""

    first: Ints
    lengths: Ints

    @classmethod
    def of(cls, tokens: TokenSequences, positions: int) -> "TrailingWindows":
        """At most so many positions of each."""
        lengths = np.minimum(tokens.lengths + 1, positions)
        return cls(tokens.starts[1:] - lengths, lengths)

    def extended(self) -> "TrailingWindows":
        """With one position more each."""
        return TrailingWindows(self.first + np.arange(len(self.first)), self.lengths + 1)

    def batch(self, model: FoundationModel, tokens: TokenSequences) -> Batch:
        """The windows, with what lies before them where the model wants it."""
        batch = tokens.windows(self.first, self.lengths)
        return batch if model.is_windowed else replace(batch, past=select_past(tokens, self.first, model.past_events))


def _decode_with_cache(
    model: FoundationModel, tokens: TokenSequences, ends: TrailingWindows, choose: TitlePicker, count: int
) -> None:
    """One pass over the histories, then one position a step."""
    inputs, _ = model.known_titles()
    batch, last = ends.batch(model, tokens), torch.from_numpy(ends.lengths) - 1
    drop = torch.arange(batch.titles.shape[1])[None, :] >= last[:, None]
    passed, before = CachedTransformer(model.transformer), model.pool_past(batch, inputs)
    if before.shape[1]:
        passed(before, batch.times[:, :1].expand(before.shape[:2]), torch.ones(before.shape[:2], dtype=torch.bool))
    x = model.tokens(functional.embedding(batch.titles, inputs), batch, drop)
    states = passed(x, batch.times, batch.valid)[torch.arange(len(last)), last]
    new = _next_positions(batch, last)
    for step in range(1, count + 1):
        rows = choose(model.vectors(states))
        if step < count:
            x = model.tokens(functional.embedding(rows, inputs)[:, None], new, new.valid, (last + step)[:, None])
            states = passed(x, new.times, new.valid)[:, 0]


def _decode_without_cache(
    model: FoundationModel, tokens: TokenSequences, ends: TrailingWindows, choose: TitlePicker, count: int
) -> None:
    """All histories again at every step."""
    inputs, _ = model.known_titles()
    known = torch.from_numpy(ends.lengths)[:, None] - 1
    for _ in range(count):
        batch, last = ends.batch(model, tokens), torch.from_numpy(ends.lengths) - 1
        drop = torch.arange(batch.titles.shape[1])[None, :] >= known
        states = model.members(batch, inputs, batch.titles, drop)[torch.arange(len(last)), last]
        tokens, ends = append_tokens(tokens, choose(model.vectors(states)).numpy()), ends.extended()


def _next_positions(batch: Batch, last: torch.Tensor) -> Batch:
    """The (b, 1) positions after those at column `last` of each row."""
    there = torch.arange(len(last))[:, None], last[:, None]
    codes = batch.codes[there].clone()
    codes[:, :, _PAUSE_COLUMN], codes[:, :, len(POST_COLUMNS) :] = _ZERO_GAP_CODE, 0
    parts = {field.name: getattr(batch, field.name)[there] for field in fields(batch) if field.name != "past"}
    return Batch(**{**parts, "codes": codes})


def append_tokens(tokens: TokenSequences, rows: Ints) -> TokenSequences:
    """Histories with one token more each, on the titles of vocabulary `rows`, met as the last ones were."""
    ends = tokens.starts[1:]
    there = np.insert(np.arange(tokens.starts[-1]), ends, ends - 1)
    arrays = {field.name: getattr(tokens, field.name)[there] for field in fields(tokens) if field.name != "starts"}
    longer = TokenSequences(starts=tokens.starts + np.arange(len(tokens.starts)), **arrays)
    new = longer.starts[1:] - 1
    longer.titles[new], longer.targets[new - 1] = rows, np.where(rows > 0, rows, NO_TARGET)
    longer.targets[new] = NO_TARGET
    longer.codes[new, _PAUSE_COLUMN] = _ZERO_GAP_CODE
    return longer


def _length_batches(histories: pa.Table, length: int, titles: int) -> Iterator[Ints]:
    """Members of like length, few enough for one batch."""
    tokens = np.asarray(pc.fill_null(pc.list_value_length(histories[schema.TITLE_ID]), 0), dtype=np.int64)
    lengths = np.minimum(tokens + 1, length)
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        rows = max(1, min(_BATCH_TOKENS // int(lengths[order[0]]), _MAX_SCORE_CELLS // max(1, titles)))
        yield order[:rows]
        order = order[rows:]


def seen_titles(histories: pa.Table, catalogue: pa.Table) -> torch.Tensor:
    """(n, m): whether a member's history has a title of the catalogue."""
    events = EventTable.of(histories, catalogue[schema.TITLE_ID].combine_chunks())
    met = torch.zeros(len(histories), len(catalogue), dtype=torch.bool)
    met[events.owner[events.new], events.titles[events.new]] = True
    return met
