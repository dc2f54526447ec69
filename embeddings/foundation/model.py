"""The foundation model: history tower and title tower, prediction heads, pooling of events older than the window."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from embeddings.foundation.config import NetworkConfig
from embeddings.foundation.metadata import NUM_SIGNALS, MetadataVocabulary
from embeddings.foundation.network import Transformer, byte_dropout
from embeddings.foundation.sequences import (
    NUM_GAP_CODES,
    POST_COLUMNS,
    Batch,
    PastBatch,
    TokenSequences,
    code_sizes,
    gap_codes,
)
from embeddings.foundation.title_tower import TitleTower
from embeddings.foundation.vocabulary import Vocabulary

_ACTION_BITS = 31
_TEMPERATURE_BOUNDS = (0.01, 1.0)


@dataclass(frozen=True)
class TitleFeatures:
    """What the tower reads of titles besides their id: (u, columns), (u, content_dim), (u, SIGNALS)."""

    codes: torch.Tensor
    content: torch.Tensor
    signals: torch.Tensor

    def to(self, device: torch.device) -> "TitleFeatures":
        """The same on a device."""
        return TitleFeatures(self.codes.to(device), self.content.to(device), self.signals.to(device))

    def take(self, rows: torch.Tensor) -> "TitleFeatures":
        """The features of some rows."""
        return TitleFeatures(self.codes[rows], self.content[rows], self.signals[rows])


class TokenEmbedding(nn.Module):
    """A position's vector: the title before it, its codes in one table, its actions, its place in the window."""

    offsets: torch.Tensor

    def __init__(self, config: NetworkConfig, sizes: list[int], length: int) -> None:
        super().__init__()
        offsets = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("offsets", offsets, persistent=False)
        self.title = nn.Linear(config.dim, config.width)
        self.codes = nn.EmbeddingBag(sum(sizes), config.width, mode="sum")
        self.actions = nn.Linear(_ACTION_BITS, config.width, bias=False)
        self.places = nn.Embedding(length, config.width)
        self.dropout = config.dropout
        # At the start a position is its title and little else: what the ids know is there from the first step.
        with torch.no_grad():
            nn.init.eye_(self.title.weight).mul_(2.0)
        nn.init.zeros_(self.title.bias)
        for table in (self.codes, self.actions, self.places):
            nn.init.normal_(table.weight, std=0.02)

    def forward(
        self, titles: torch.Tensor, batch: Batch, drop_context: torch.Tensor, places: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(b, l, dim) title vectors to (b, l, width); `drop_context` (b, l) makes the request context UNKNOWN.

        `places` (b, l) in the window are 0, 1 … where not given.
        """
        b, length, _ = titles.shape
        codes = batch.codes.clone()
        codes[:, :, len(POST_COLUMNS) :] *= ~drop_context[:, :, None]
        summed = self.codes((codes + self.offsets).view(b * length, -1)).view(b, length, -1)
        bits = (batch.actions[:, :, None] >> torch.arange(_ACTION_BITS, device=titles.device)) & 1
        x = self.title(titles) + summed + self.actions(bits.float())
        x = x + (self.places.weight[:length] if places is None else self.places(places))
        return byte_dropout(x, self.dropout, self.training)


class FoundationModel(nn.Module):
    """The whole model; the features of known titles travel with the weights as buffers."""

    known_codes: torch.Tensor
    known_content: torch.Tensor
    known_signals: torch.Tensor

    def __init__(self, config: NetworkConfig, vocabulary: Vocabulary, length: int, temperature: float) -> None:
        super().__init__()
        metadata: MetadataVocabulary = vocabulary.metadata
        rows, layout = len(vocabulary.title_ids) + 2, metadata.layout()
        self.length = length
        self.tower = TitleTower(config, rows, layout, metadata.content_dim)
        self.tokens = TokenEmbedding(config, code_sizes(vocabulary), length)
        self.transformer = Transformer(config)
        self.heads = PredictionHeads(config, metadata)
        self.latents = PerceiverPooling(config) if config.latents else None
        self.past_events = config.max_past_events
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.register_buffer("known_codes", torch.zeros(rows, sum(columns for columns, _ in layout), dtype=torch.long))
        self.register_buffer("known_content", torch.zeros(rows, metadata.content_dim))
        self.register_buffer("known_signals", torch.zeros(rows, NUM_SIGNALS))

    @property
    def scale(self) -> torch.Tensor:
        """One over the temperature."""
        return torch.exp(-self.log_temperature.clamp(*map(math.log, _TEMPERATURE_BOUNDS)))

    @property
    def known_features(self) -> TitleFeatures:
        """Features of the vocabulary's rows; the unknown title and the start have none."""
        return TitleFeatures(self.known_codes, self.known_content, self.known_signals)

    def set_known_titles(self, features: TitleFeatures) -> None:
        """Set the features of the n titles of the vocabulary."""
        self.known_codes[1:-1] = features.codes
        self.known_content[1:-1] = features.content
        self.known_signals[1:-1] = features.signals

    def init_title_ids(self, vectors: torch.Tensor) -> None:
        """Let the ids of the n titles start from (n, dim) vectors and a tenth of their random start."""
        with torch.no_grad():
            self.tower.ids.weight[1:-1].mul_(0.1).add_(vectors)

    def members(self, batch: Batch, titles: torch.Tensor, index: torch.Tensor, drop: torch.Tensor) -> torch.Tensor:
        """States (b, l, width) of positions whose titles are rows `index` (b, l) of input vectors `titles`.

        The titles of the batch's past, if it has one, are rows of the same.
        """
        x = self.tokens(functional.embedding(index, titles), batch, drop)
        pooled = self.pool_past(batch, titles)
        times = torch.cat([batch.times[:, :1].expand(-1, pooled.shape[1]), batch.times], dim=1)
        states: torch.Tensor = self.transformer(torch.cat([pooled, x], dim=1), times)[:, pooled.shape[1] :]
        return states

    def pool_past(self, batch: Batch, titles: torch.Tensor) -> torch.Tensor:
        """(b, latents, width): what lies before the windows of a batch; no latents where the model has none."""
        if self.latents is None or batch.past is None:
            return titles.new_zeros(len(batch.titles), 0, self.transformer.project.in_features)
        pooled: torch.Tensor = self.latents(functional.embedding(batch.past.titles, titles), batch.past)
        return pooled

    @property
    def is_windowed(self) -> bool:
        """Whether the states come from the window alone."""
        return self.latents is None

    @property
    def device(self) -> torch.device:
        """Where its weights are, and what it is given has to be."""
        return self.log_temperature.device

    @property
    def receptive_field(self) -> int:
        """Tokens that a member's vector can depend on."""
        return self.length + (0 if self.is_windowed else self.past_events)

    def vectors(self, states: torch.Tensor) -> torch.Tensor:
        """(…, width) to unit member vectors (…, dim)."""
        return self.transformer.projected(self.heads.feed_back(self.transformer.norm(states)))

    def known_titles(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Input vectors of all rows, and unit output vectors of the n titles of the vocabulary."""
        known = self.known_features
        parts = self.tower.parts(torch.arange(len(known.codes), device=known.codes.device), known.codes, known.content)
        return self.tower.inputs(parts), self.tower.outputs(parts, known.signals)[1:-1]

    def titles(self, rows: torch.Tensor, features: TitleFeatures) -> torch.Tensor:
        """(m, dim) unit vectors of titles; row 0 takes them from metadata alone."""
        parts = self.tower.parts(rows, features.codes, features.content)
        return self.tower.outputs(parts, features.signals)


TargetValues = Callable[[str], tuple[torch.Tensor, torch.Tensor]]
"""Of a head's name: states (p, width) and the targets' unit vectors (p, dim), with the gradient it may have on them."""

PREFERENCES = ("genres", "language")
"""The fields whose values are predicted, where the catalogue has them."""
COMPLETION_THRESHOLD = 0.8
"""Share of the runtime from which a title counts as watched through."""


class PredictionHeads(nn.Module):
    """Predictions from states (…, width), all linear."""

    def __init__(self, config: NetworkConfig, metadata: MetadataVocabulary) -> None:
        super().__init__()
        asked = PREFERENCES if config.preferences else ()
        self.places = {field: place for field, place in metadata.field_columns().items() if field in asked}
        sizes = {field: len(metadata.values[field]) for field in self.places}
        self.values = nn.ModuleDict({field: _small_linear(config.width, size) for field, size in sizes.items()})
        self.watched = _small_linear(config.width, config.dim) if config.preferences else None
        fed = sizes if config.hierarchical else {}
        self.feeds = nn.ModuleDict({field: _small_linear(size, config.width, std=0.0) for field, size in fed.items()})

    def value_probs(self, field: str, states: torch.Tensor) -> torch.Tensor:
        """(…, values): how likely the next title has each value; rows sum to one."""
        logits: torch.Tensor = self.values[field](states)
        return torch.softmax(logits, dim=-1)

    def feed_back(self, states: torch.Tensor) -> torch.Tensor:
        """The states with the predicted values in them, where the model is hierarchical."""
        for field, feed in self.feeds.items():
            states = states + feed(self.value_probs(field, states))
        return states

    def losses(self, seen: TargetValues, codes: torch.Tensor, tenths: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean loss of each head over p targets, by its name; heads that are not asked anything are left out.

        `codes` (p, columns) are the metadata codes of the targets, `tenths` (p,) the codes of the share that was
        watched of them, 0 where that is not known.
        """
        losses = {
            field: multi_label_loss(self.values[field](seen(field)[0]), codes[:, place])
            for field, place in self.places.items()
        }
        known = tenths > 0
        if self.watched is not None and known.any():
            states, titles = seen("watched")
            logits = (self.watched(states) * titles).sum(dim=1)[known]
            through = (tenths[known] > 10 * COMPLETION_THRESHOLD).float()
            losses["watched"] = functional.binary_cross_entropy_with_logits(logits, through)
        return losses


def _small_linear(inputs: int, outputs: int, std: float = 0.02) -> nn.Linear:
    """A linear map that says little at first, or nothing."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


def multi_label_loss(logits: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of (p, values) logits with the even mix of the values that each row of `codes` lists."""
    listed = codes > 0
    found = functional.log_softmax(logits, dim=1).gather(1, (codes - 1).clamp(min=0))
    each = (found * listed).sum(dim=1) / listed.sum(dim=1).clamp(min=1)
    return -each.sum() / listed.any(dim=1).sum().clamp(min=1)


Ints = npt.NDArray[np.int64]


def select_past(tokens: TokenSequences, first: Ints, most: int, random: np.random.Generator | None = None) -> PastBatch:
    """What is older than windows that begin at positions `first`: its `most` newest titles, or so many at random."""
    begin = tokens.starts[np.searchsorted(tokens.starts, first, side="right") - 1]
    count = first - begin
    kept = np.minimum(count, most)
    step = np.arange(max(1, int(kept.max(initial=0))))
    valid = step[None, :] < kept[:, None]
    place = step[None, :] + (count - kept)[:, None]
    if random is not None and (count > most).any():
        # One of each of `most` equal stretches: nothing twice, and the order stays.
        place = ((step[None, :] + random.random(valid.shape)) * (count / np.maximum(kept, 1))[:, None]).astype(np.int64)
    index = np.where(valid, begin[:, None] + place, begin[:, None])
    ages = gap_codes(tokens.times[first][:, None] - tokens.times[index])
    return PastBatch(torch.from_numpy(tokens.titles[index]), torch.from_numpy(ages), torch.from_numpy(valid))


class PerceiverPooling(nn.Module):
    """Cross-attention of learned questions to the titles of the past and to how long ago they were met."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.questions = nn.Parameter(torch.randn(config.latents, config.width) * 0.02)
        self.nothing = nn.Parameter(torch.zeros(1, 1, config.width))
        self.title = nn.Linear(config.dim, config.width)
        self.ages = nn.Embedding(NUM_GAP_CODES, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.query, self.out = nn.Linear(config.width, config.width), nn.Linear(config.width, config.width)
        self.key_value = nn.Linear(config.width, 2 * config.width)
        nn.init.normal_(self.ages.weight, std=0.02)
        nn.init.zeros_(self.out.bias)

    def forward(self, titles: torch.Tensor, past: PastBatch) -> torch.Tensor:
        """(b, m, dim) input vectors of the past's titles to (b, latents, width)."""
        b = len(titles)
        seen = self.norm(self.title(titles) + self.ages(past.ages))
        seen = torch.cat([self.nothing.expand(b, -1, -1), seen], dim=1)
        there = functional.pad(past.valid, (1, 0), value=True)[:, None, None, :]
        asked = self.query(self.norm(self.questions)).expand(b, -1, -1)
        q, k, v = (self._split(x) for x in (asked, *self.key_value(seen).chunk(2, dim=-1)))
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=there)
        answers: torch.Tensor = self.questions + self.out(mixed.transpose(1, 2).reshape(b, len(self.questions), -1))
        return answers

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
