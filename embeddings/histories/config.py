"""How histories are made from the lake."""

from datetime import UTC, datetime

from pydantic import Field, field_validator

from stores.lake.scan import ScanConfig
from stores.schema import ACTIONS
from stores.settings import Settings


class HistoriesConfig(Settings):
    """How histories are made from the lake.

    `watch_actions` are those that count as a play of a title: what a member consumed or judged, not what
    was only looked for, put on a list or advertised. `earliest` is the first time that can be
    true: recommendation data before 1990 is a broken clock (1970 most often).
    """

    merge_gap_minutes: float = Field(default=30.0, ge=0)
    max_tokens: int = Field(default=8192, ge=1)
    max_bad_fraction: float = Field(default=0.05, ge=0, le=1)
    max_listed_rows: int = Field(default=100_000, ge=0)
    earliest: datetime = datetime(1990, 1, 1, tzinfo=UTC)
    actions: tuple[str, ...] = ACTIONS
    watch_actions: tuple[str, ...] = ("play", "rate", "view", "click", "purchase")
    members_per_shard: int = Field(default=20_000, ge=1)
    min_shards: int = Field(default=4, ge=1)
    block_rows: int = Field(default=6_000_000, ge=1)
    scan: ScanConfig = ScanConfig()

    @field_validator("actions")
    @classmethod
    def _fit_action_bits(cls, actions: tuple[str, ...]) -> tuple[str, ...]:
        if not 1 <= len(actions) <= 31 or len(set(actions)) < len(actions):
            raise ValueError("1 to 31 different actions: each is one bit of an int32")
        return actions
