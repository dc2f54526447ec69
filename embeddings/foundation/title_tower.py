"""The title tower: what is known of a title by its id and by its metadata, mixed by how far the id can be trusted."""

import torch
from torch import nn
from torch.nn import functional

from embeddings.foundation.config import NetworkConfig
from embeddings.foundation.metadata import NUM_SIGNALS

TowerParts = tuple[torch.Tensor, torch.Tensor]
"""The id part and the metadata part of titles."""


class MetadataEncoder(nn.Module):
    """Per field the mean of learned embeddings, concatenated with a projected content vector, projected to `dim`."""

    def __init__(self, config: NetworkConfig, layout: list[tuple[int, int]], content_dim: int) -> None:
        super().__init__()
        self.columns = [columns for columns, _ in layout]
        self.fields = nn.ModuleList(
            nn.EmbeddingBag(values, config.field_dim, mode="mean", padding_idx=0) for _, values in layout
        )
        self.content = nn.Linear(content_dim, config.dim, bias=False) if content_dim else None
        width = config.field_dim * len(layout) + (config.dim if content_dim else 0)
        self.project = nn.Linear(width, config.dim) if width else None
        self.dim, self.field_dim = config.dim, config.field_dim
        for field in self.fields.parameters():
            nn.init.normal_(field, std=0.3)
        if self.project is not None:
            nn.init.normal_(self.project.weight, std=0.02)

    def forward(self, codes: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        """(u, columns) codes and (u, content_dim) vectors to (u, dim)."""
        blocks = torch.split(codes, self.columns, dim=1) if self.columns else ()
        parts = [field(block) for field, block in zip(self.fields, blocks, strict=True)]
        if self.content is not None:
            parts.append(self.content(content))
        if self.project is None:
            return torch.zeros(len(codes), self.dim, device=codes.device)
        projected: torch.Tensor = self.project(torch.cat(parts, dim=1))
        return projected


class TitleTower(nn.Module):
    """v = α₁·E_id + α₂·f(metadata), α = softmax(MLP[log1p age, log1p plays, before launch, unknown launch]).

    As the input of the transformer the mix is a learned constant: a token must not depend on plays
    or age, which are known only later than its event.
    """

    def __init__(self, config: NetworkConfig, titles: int, layout: list[tuple[int, int]], content_dim: int) -> None:
        super().__init__()
        self.ids = nn.Embedding(titles, config.dim)
        self.metadata = MetadataEncoder(config, layout, content_dim)
        self.trust = nn.Sequential(nn.Linear(NUM_SIGNALS, 16), nn.SiLU(), nn.Linear(16, 2))
        self.input_trust = nn.Parameter(torch.zeros(2))
        nn.init.normal_(self.ids.weight, std=config.dim**-0.5)

    def parts(
        self, rows: torch.Tensor, codes: torch.Tensor, content: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The id part and the metadata part of titles, (u, dim) each."""
        return self.ids(rows), self.metadata(codes, content)

    def inputs(self, parts: TowerParts) -> torch.Tensor:
        """(u, dim): titles as the transformer sees them."""
        alpha = torch.softmax(self.input_trust, dim=0)
        return alpha[0] * parts[0] + alpha[1] * parts[1]

    def outputs(self, parts: TowerParts, signals: torch.Tensor) -> torch.Tensor:
        """(u, dim) unit vectors: titles as they are scored."""
        alpha = torch.softmax(self.trust(signals), dim=1)
        return functional.normalize(alpha[:, :1] * parts[0] + alpha[:, 1:] * parts[1], dim=1)
