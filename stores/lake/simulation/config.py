"""How large the simulated service is, and how it behaves."""

from datetime import UTC, datetime

from pydantic import Field

from stores.settings import Settings

END = datetime(2026, 1, 1, tzinfo=UTC)
"""Where the simulated days end (exclusive): fixed, so that the same configuration always gives the same bytes."""

DAY_S = 86_400


class SimulationConfig(Settings):
    """A simulated streaming service. `broken` is the share of interaction rows that break the contract."""

    members: int = Field(2000, ge=1)
    titles: int = Field(800, ge=2)
    days: int = Field(90, ge=1, le=20_000)
    seed: int = Field(0, ge=0)
    broken: float = Field(0.0, ge=0.0, le=0.9)
    clusters: int = Field(12, ge=1, le=64)
    """Planted tastes; each title belongs to one."""
    taste_concentration: float = Field(0.12, gt=0.0)
    """Dirichlet parameter of a member's mixture; small means few clusters per member."""
    drift: float = Field(0.3, ge=0.0, le=1.0)
    """How much of a member's mixture is replaced between the first day and the last."""
    zipf: float = Field(0.7, ge=0.0)
    """Exponent of the popularity within a cluster."""
    franchise_share: float = Field(0.7, ge=0.0, le=1.0)
    """Titles that are part of a sequence whose next part one wants to see."""
    launching_share: float = Field(0.12, ge=0.0, le=1.0)
    """Titles that launch during the days; the others are older."""
    newcomer_share: float = Field(0.3, ge=0.0, le=1.0)
    """Members who join during the days."""
    leaver_share: float = Field(0.15, ge=0.0, le=1.0)
    """Members who leave before the last day."""
    sessions_per_day: float = Field(0.3, gt=0.0)
    """Mean over members; a member has at most one session a day."""
    slates_per_session: float = Field(3.0, ge=1.0)
    """Mean number of slates (pages of titles) that a member looks at."""
    slate_size: int = Field(6, ge=1, le=50)
    embedding_dim: int = Field(32, ge=1)
    embedding_noise: float = Field(0.7, ge=0.0)
    """Standard deviation of a title's content vector around its cluster's centre, per coordinate of norm 1."""

    @property
    def first_day(self) -> int:
        """The first simulated day, in days since 1970."""
        return int(END.timestamp()) // DAY_S - self.days
