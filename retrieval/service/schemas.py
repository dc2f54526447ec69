"""What the routes answer and are asked: the models from which FastAPI makes the OpenAPI document."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from retrieval.recall import Recall
from retrieval.service.loaded_release import RowScores, TitleCatalogue
from retrieval.service.request_parameters import StrictBody

Id = int | str
"""Ids are whole numbers or text, as in the lake."""


class ReleaseAnswer(BaseModel):
    """Every answer names the one release that it was made from."""

    release_id: str
    space_id: str


class ScoredTitle(BaseModel):
    """A title and its score; bigger is better."""

    title_id: Id
    name: str | None
    score: float


class TitleList(ReleaseAnswer):
    """Titles, best first; fewer than asked for only where fewer may be shown."""

    titles: list[ScoredTitle]


class Embedding(ReleaseAnswer):
    """A member's published vector."""

    member_id: Id
    embedding: list[float]
    changed_in: str | None = Field(description="the release in which this vector last changed")
    event_time: datetime | None = Field(description="the member's last event")


class ReleaseFacts(ReleaseAnswer):
    """What is live."""

    model_id: str
    as_of: datetime
    sealed_at: datetime
    previous_release: str | None
    titles: int
    members: int
    dim: int
    candidates_recall: Recall | None
    similar_recall: Recall | None


class Health(ReleaseAnswer):
    """The service answers, from `release_id`; `live_release_id` is what the pointer names."""

    status: Literal["ok", "behind"] = Field(description="behind: what is live is not yet, or could not be, opened")
    revision: int = Field(description="of the release served; counts up with each erasure in it")
    live_release_id: str | None
    behind_s: float = Field(description="seconds since what is live came to be, 0 where it is what is served")
    heartbeat_age_s: float | None = Field(description="seconds since the pointer was last looked at")
    failures: int = Field(description="attempts to open what is live since the last one that succeeded")
    error: str | None = Field(description="the kind of the last one's error; the log has its text")


class Query(StrictBody):
    """A vector in, titles out."""

    vector: list[float] = Field(min_length=1, max_length=4096)
    k: int = Field(default=10, ge=1)
    metric: Literal["ip", "cosine"] = "ip"
    space_id: str | None = Field(default=None, description="refuse (409) unless the live release is of this space")
    exclude: list[Id] = Field(default=[], description="title ids to leave out")
    country: str | None = Field(default=None, max_length=64)
    max_maturity: int | None = Field(default=None, ge=0, le=2**31 - 1)


def scored_titles(opened: TitleCatalogue, found: RowScores) -> list[ScoredTitle]:
    """Rows and scores as titles."""
    return [ScoredTitle(title_id=opened.ids[row], name=opened.names[row], score=score) for row, score in found]


def release_fields(opened: TitleCatalogue) -> dict[str, Any]:
    """What every answer says of the release that it comes from."""
    return {"release_id": opened.release_id, "space_id": opened.space_id}
