"""Both towers and what joins them: token embedding, temperature, and the titles that the model knows."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from embeddings.foundation.config import NetworkConfig
from embeddings.foundation.dropout import dropped
from embeddings.foundation.heads import Heads
from embeddings.foundation.latents import Latents
from embeddings.foundation.metadata import SIGNALS, Metadata
from embeddings.foundation.network import Transformer
from embeddings.foundation.tokens import POST, Batch, code_sizes
from embeddings.foundation.tower import TitleTower
from embeddings.foundation.vocabulary import Vocabulary

_ACTION_BITS = 31
_TEMPERATURES = (0.01, 1.0)


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
        codes[:, :, len(POST) :] *= ~drop_context[:, :, None]
        summed = self.codes((codes + self.offsets).view(b * length, -1)).view(b, length, -1)
        bits = (batch.actions[:, :, None] >> torch.arange(_ACTION_BITS, device=titles.device)) & 1
        x = self.title(titles) + summed + self.actions(bits.float())
        x = x + (self.places.weight[:length] if places is None else self.places(places))
        return dropped(x, self.dropout, self.training)


class FoundationModel(nn.Module):
    """The whole model; the features of known titles travel with the weights as buffers."""

    known_codes: torch.Tensor
    known_content: torch.Tensor
    known_signals: torch.Tensor

    def __init__(self, config: NetworkConfig, vocabulary: Vocabulary, length: int, temperature: float) -> None:
        super().__init__()
        metadata: Metadata = vocabulary.metadata
        rows, layout = len(vocabulary.title_ids) + 2, metadata.layout()
        self.length = length
        self.tower = TitleTower(config, rows, layout, metadata.content_dim)
        self.tokens = TokenEmbedding(config, code_sizes(vocabulary), length)
        self.transformer = Transformer(config)
        self.heads = Heads(config, metadata)
        self.latents = Latents(config) if config.latents else None
        self.past_events = config.past_events
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.register_buffer("known_codes", torch.zeros(rows, sum(columns for columns, _ in layout), dtype=torch.long))
        self.register_buffer("known_content", torch.zeros(rows, metadata.content_dim))
        self.register_buffer("known_signals", torch.zeros(rows, SIGNALS))

    @property
    def scale(self) -> torch.Tensor:
        """One over the temperature."""
        return torch.exp(-self.log_temperature.clamp(*map(math.log, _TEMPERATURES)))

    @property
    def known(self) -> TitleFeatures:
        """Features of the vocabulary's rows; the unknown title and the start have none."""
        return TitleFeatures(self.known_codes, self.known_content, self.known_signals)

    def know(self, features: TitleFeatures) -> None:
        """Set the features of the n titles of the vocabulary."""
        self.known_codes[1:-1] = features.codes
        self.known_content[1:-1] = features.content
        self.known_signals[1:-1] = features.signals

    def start_from(self, vectors: torch.Tensor) -> None:
        """Let the ids of the n titles start from (n, dim) vectors and a tenth of their random start."""
        with torch.no_grad():
            self.tower.ids.weight[1:-1].mul_(0.1).add_(vectors)

    def members(self, batch: Batch, titles: torch.Tensor, index: torch.Tensor, drop: torch.Tensor) -> torch.Tensor:
        """States (b, l, width) of positions whose titles are rows `index` (b, l) of input vectors `titles`.

        The titles of the batch's past, if it has one, are rows of the same.
        """
        x = self.tokens(functional.embedding(index, titles), batch, drop)
        pooled = self.pooled(batch, titles)
        times = torch.cat([batch.times[:, :1].expand(-1, pooled.shape[1]), batch.times], dim=1)
        states: torch.Tensor = self.transformer(torch.cat([pooled, x], dim=1), times)[:, pooled.shape[1] :]
        return states

    def pooled(self, batch: Batch, titles: torch.Tensor) -> torch.Tensor:
        """(b, latents, width): what lies before the windows of a batch; no latents where the model has none."""
        if self.latents is None or batch.past is None:
            return titles.new_zeros(len(batch.titles), 0, self.transformer.project.in_features)
        pooled: torch.Tensor = self.latents(functional.embedding(batch.past.titles, titles), batch.past)
        return pooled

    @property
    def plain(self) -> bool:
        """Whether the states come from the window alone."""
        return self.latents is None

    @property
    def device(self) -> torch.device:
        """Where its weights are, and what it is given has to be."""
        return self.log_temperature.device

    @property
    def reach(self) -> int:
        """Tokens that a member's vector can depend on."""
        return self.length + (0 if self.plain else self.past_events)

    def vectors(self, states: torch.Tensor) -> torch.Tensor:
        """(…, width) to unit member vectors (…, dim)."""
        return self.transformer.projected(self.heads.fed(self.transformer.norm(states)))

    def known_titles(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Input vectors of all rows, and unit output vectors of the n titles of the vocabulary."""
        known = self.known
        parts = self.tower.parts(torch.arange(len(known.codes), device=known.codes.device), known.codes, known.content)
        return self.tower.inputs(parts), self.tower.outputs(parts, known.signals)[1:-1]

    def titles(self, rows: torch.Tensor, features: TitleFeatures) -> torch.Tensor:
        """(m, dim) unit vectors of titles; row 0 takes them from metadata alone."""
        parts = self.tower.parts(rows, features.codes, features.content)
        return self.tower.outputs(parts, features.signals)
