"""Settings of retrieval: how good an index must be, what may be tried, and on how many members it is judged."""

from typing import Literal

from pydantic import Field

from stores.settings import Settings

Metric = Literal["ip", "cosine"]


class SearchSettings(Settings):
    """What an index has to reach and what may be tried to reach it."""

    target_recall: float = Field(default=0.99, gt=0, le=1)
    """The lower end of the 95 % interval of recall@`recall_at` has to reach this."""
    recall_at: int = Field(default=10, ge=1)
    exact_below: int = Field(default=50_000, ge=0)
    """Catalogues of at most this many titles are searched exactly."""
    backends: tuple[Literal["hnsw", "hnsw_sq8", "ivf_flat"], ...] = ("hnsw", "hnsw_sq8", "ivf_flat")
    """Index types that compete with the exact one in a larger catalogue."""
    trial_titles: int = Field(default=20_000, ge=1)
    """Titles in the sample on which the types compete."""
    memory_bytes: int | None = Field(default=None, ge=1)
    """Types that would take more are not tried; None means no limit."""
    device: Literal["auto", "cpu"] = "auto"
    """`auto` searches on GPUs where FAISS sees any."""
    seed: int = 0


class IndexConfig(SearchSettings):
    """Settings of one index. `metric` is the inner product of the vectors given, or of their unit-length copies."""

    metric: Metric = "ip"


class RetrievalConfig(SearchSettings):
    """Settings of the index stage of a night."""

    queries: int = Field(default=2000, ge=1)
    """Members whose vectors judge the indexes."""

    def index(self, metric: Metric) -> IndexConfig:
        """The same settings for an index of one metric."""
        return IndexConfig(metric=metric, **self.model_dump(exclude={"queries"}))
