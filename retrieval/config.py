"""Settings of retrieval: how good an index must be, what may be tried, and on how many members it is judged."""

from typing import Literal

from pydantic import Field

from stores.settings import Settings

Metric = Literal["ip", "cosine"]
IndexType = Literal["ivf_routed", "hnsw", "hnsw_sq8", "ivf_flat"]


class SearchSettings(Settings):
    """What an index has to reach and what may be tried to reach it."""

    target_recall: float = Field(default=0.99, gt=0, le=1)
    """The lower end of the 95 % interval of recall@`recall_at` has to reach this."""
    recall_at: int = Field(default=10, ge=1)
    exact_below: int = Field(default=50_000, ge=0)
    """Catalogues of at most this many titles are searched exactly."""
    backends: tuple[IndexType, ...] = ("ivf_routed", "hnsw", "hnsw_sq8")
    """Index types that compete with the exact one in a larger catalogue."""
    queries: int = Field(default=2000, ge=1)
    """Members whose vectors choose and judge an index; any more that are given guide the types that learn from them."""
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

    train_queries: int = Field(default=2_000, ge=0)
    """Further members, from whom an index may learn what is asked of it."""

    def index(self, metric: Metric) -> IndexConfig:
        """The same settings for an index of one metric; a cosine one is asked by titles, so members cannot teach it."""
        settings = self.model_dump(exclude={"train_queries"})
        if metric == "cosine":
            untaught = ("ivf_flat" if name == "ivf_routed" else name for name in self.backends)
            settings["backends"] = tuple(dict.fromkeys(untaught))
        return IndexConfig(metric=metric, **settings)


class CandidatesConfig(Settings):
    """The stage that writes the best titles of every member; off unless asked for."""

    enabled: bool = False
    k: int = Field(default=100, ge=1)
    """Titles for each member; fewer only where fewer may be shown."""
    exclude_seen: bool = True
    """Leave out what stands in the member's history."""
    by_country: bool = False
    """Leave out what is not available in the country of the member's last event that names one."""
    max_maturity: int | None = None
    """Leave out titles above this maturity; one without is shown to everyone."""
    workers: int | None = Field(default=None, ge=1)
    """Processes, each on one core; None means one for each processor of the cluster."""
