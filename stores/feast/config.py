"""Settings of publishing into Feast: slots, stores, registry."""

from datetime import date
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from stores.masking import register_secrets
from stores.settings import Settings

FREE_FORM = ("online_store", "offline_store")
"""Blocks of Feast's own, which may hold secrets under any name."""


class PublishConfig(Settings):
    """Where and how features are published."""

    online_store: dict[str, Any] = Field(default_factory=lambda: {"type": "sqlite", "path": "online.db"}, repr=False)
    """Feast's own block, as it goes into `feature_store.yaml`; Feast puts environment variables in place of
    `${NAME}`, which is where passwords belong."""
    offline_store: dict[str, Any] = Field(default_factory=dict, repr=False)
    """Feast's own block. Empty: `duckdb` for a workspace on disk, `dask` for one on an object store, where DuckDB
    would fetch an extension at run time."""
    repository: str = ""
    """Folder of the Feast repository of a workspace on an object store, whose registry and history stay there.
    Default: one for each workspace below the user's cache folder."""
    batch_rows: int = 20_000
    """Rows in one write to the online store."""
    slots: Literal[1, 2] = 1
    """1: changed rows are overwritten in place. 2: the next release is written beside the live one, and feature
    services move to it in one write: twice the online memory, and readers must read through the services."""
    previous_spaces_until: date | None = None
    """The last day (UTC, of the night's moment) on which older spaces are served from the new model: its vectors are
    mapped onto each as long as alignment does not refuse. Afterwards, and without a date, an old space is frozen."""
    registry_ttl_s: int = Field(default=60, ge=1)
    """How long Feast's readers may keep the registry that they read. A new space goes live, and with two slots the
    idle one is written to, only when this time has passed since the registry changed."""

    @model_validator(mode="before")
    @classmethod
    def _hides_its_secrets(cls, values: Any) -> Any:
        """Before anything is checked, because the errors of a check show what they found."""
        for name in FREE_FORM:
            register_secrets(values.get(name) if isinstance(values, dict) else values)
        return values

    @field_validator("online_store")
    @classmethod
    def _keeps_what_did_not_change(cls, block: dict[str, Any]) -> dict[str, Any]:
        if block.get("key_ttl_seconds"):
            raise ValueError("key_ttl_seconds cannot be set: a night writes what changed, all other rows would expire")
        return block
