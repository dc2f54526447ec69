"""What tonight is: which snapshot, model and space, and whether a crashed night goes on."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from embeddings.histories import plan_shards
from pipeline.config import Config
from stores.lake.contract import Lake
from stores.release import Plan, Release
from stores.workspace import Workspace

SECTIONS = ("histories", "encode", "align", "gate", "index")
FIRST_SPACE = "1"


@dataclass(frozen=True)
class Request:
    """What the caller of a night may choose: the moment (default: now), to encode everything, not to go live."""

    as_of: datetime | None = None
    full: bool = False
    promote: bool = True


def begin(config: Config, workspace: Workspace, request: Request, model_id: str, token: int) -> tuple[Release, bool]:
    """The release to work on, and whether it is a crashed night's that goes on.

    A staged release with the same plan hash goes on, with its own moment and id; others are removed.
    """
    lake = Lake.open(config.lake)
    previous = workspace.pointer()
    wish = _wish(config, request, lake.fingerprint(), model_id, previous)
    plan_hash = hashlib.sha256(json.dumps(wish, sort_keys=True, default=str).encode()).hexdigest()
    now = datetime.now(UTC)
    resumed: Release | None = None
    for staged in workspace.staged():
        if resumed is None and _goes_on(staged, plan_hash, now - timedelta(hours=config.night.resume_within_h)):
            resumed = Release(workspace.uri, staged.release_id, token)
        else:
            workspace.remove(staged)
    if resumed:
        return resumed, True
    plan = Plan(
        release_id=workspace.new_release_id(plan_hash, now),
        plan_hash=plan_hash,
        lake=config.lake,
        lake_fingerprint=wish["lake_fingerprint"],
        as_of=request.as_of or now,
        created_at=now,
        model_id=model_id,
        space_id=previous["space_id"] if previous else FIRST_SPACE,
        reference_release=_reference(workspace, previous),
        previous_release=previous["release_id"] if previous else None,
        shards=_shards(config, lake, workspace, previous),
        config=config.model_dump(mode="json", exclude={"publish": {"online_store"}}),
    )
    return workspace.stage(plan, token), False


def _wish(
    config: Config, request: Request, fingerprint: str, model_id: str, previous: dict[str, Any] | None
) -> dict[str, Any]:
    """All that decides what a night's content will be; equal wishes make equal releases."""
    return {
        "lake": config.lake,
        "lake_fingerprint": fingerprint,
        "as_of": request.as_of,
        "full": request.full,
        "model_id": model_id,
        "previous": previous["release_id"] if previous else None,
        "config": {name: getattr(config, name).model_dump(mode="json") for name in SECTIONS},
    }


def _goes_on(staged: Release, plan_hash: str, not_before: datetime) -> bool:
    if not staged.storage.exists("plan.json"):
        return False
    return staged.plan.plan_hash == plan_hash and staged.plan.created_at >= not_before


def _reference(workspace: Workspace, previous: dict[str, Any] | None) -> str | None:
    """The release that opened the live space: the live one itself if it did, else the one it refers to."""
    if previous is None:
        return None
    live = workspace.release(previous["release_id"])
    opened = live.plan.reference_release is None or live.space_id != live.plan.space_id
    return live.release_id if opened else live.plan.reference_release


def _shards(config: Config, lake: Lake, workspace: Workspace, previous: dict[str, Any] | None) -> int:
    """As many as the live release has, so that shards can be carried forward; else by the number of members."""
    if previous:
        return workspace.release(previous["release_id"]).plan.shards
    return plan_shards(lake, config.histories)
