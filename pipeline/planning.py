"""What tonight is: which snapshot, model and space, and whether a crashed night goes on."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from embeddings.histories import plan_shards
from pipeline.config import Config
from stores.lake.contract import Lake
from stores.leftovers import tidy
from stores.old_space import opener_of
from stores.release import Plan, Release
from stores.workspace import Workspace

SECTIONS = ("histories", "encode", "align", "gate", "index", "features", "candidates")
FIRST_SPACE = "1"


@dataclass(frozen=True)
class Request:
    """What the caller of a night may choose: the moment (default: now), to encode everything, not to go live."""

    as_of: datetime | None = None
    full: bool = False
    promote: bool = True


@dataclass(frozen=True)
class Wish:
    """All that decides what a night's content will be; equal wishes make equal releases."""

    config: Config
    request: Request
    model_id: str
    fingerprint: str

    def hash(self, previous: str | None) -> str:
        """The plan hash of this wish on top of a live release."""
        wish = {
            "lake_fingerprint": self.fingerprint,
            "as_of": self.request.as_of,
            "full": self.request.full,
            "promote": self.request.promote,
            "model_id": self.model_id,
            "previous": previous,
            "dual_until": self.config.publish.dual_until,
            "config": {name: getattr(self.config, name).model_dump(mode="json") for name in SECTIONS},
        }
        return hashlib.sha256(json.dumps(wish, sort_keys=True, default=str).encode()).hexdigest()


def begin(workspace: Workspace, wish: Wish, token: int, recovered: bool) -> tuple[Release, bool]:
    """The release to work on, and whether it is an interrupted night's that goes on.

    A release with the same plan hash that was not finished goes on, with its own moment and id: a staged one
    where it was, a sealed one that never went live by going live, one whose publication was just completed
    (`recovered`) as it is. Other staged ones are removed.
    """
    now = datetime.now(UTC)
    if unfinished := _unfinished(workspace, wish, now, recovered):
        tidy(unfinished)
        return Release(workspace.uri, unfinished.release_id, token), True
    return workspace.stage(_plan(workspace, wish, now), token), False


def _plan(workspace: Workspace, wish: Wish, now: datetime) -> Plan:
    config, previous = wish.config, workspace.pointer()
    live = workspace.release(previous["release_id"]) if previous else None
    plan_hash = wish.hash(live.release_id if live else None)
    return Plan(
        release_id=workspace.new_release_id(plan_hash, now),
        plan_hash=plan_hash,
        lake=config.lake,
        lake_fingerprint=wish.fingerprint,
        as_of=wish.request.as_of or now,
        created_at=now,
        model_id=wish.model_id,
        space_id=live.space_id if live else FIRST_SPACE,
        reference_release=opener_of(live) if live else None,
        previous_release=live.release_id if live else None,
        # As many as the live release has, so that shards can be carried forward.
        shards=live.plan.shards if live else plan_shards(Lake.open(config.lake), config.histories),
        full=wish.request.full,
        config=config.model_dump(mode="json", exclude={"publish": {"online_store", "offline_store"}}),
    )


def _unfinished(workspace: Workspace, wish: Wish, now: datetime, recovered: bool) -> Release | None:
    """The release that goes on, if there is one; staged ones that do not are removed."""
    oldest = now - timedelta(hours=wish.config.night.resume_within_h)
    live = (workspace.pointer() or {}).get("release_id")
    found = None
    for release in [*_sealed(workspace, wish, live, recovered), *workspace.staged()]:
        planned = release.storage.exists("plan.json")
        # What is live now was planned on top of what was live before it.
        base = release.plan.previous_release if planned and release.release_id == live else live
        if planned and release.plan.plan_hash == wish.hash(base) and release.plan.created_at >= oldest:
            found = release
        elif not release.sealed:
            workspace.remove(release)
    return found


def _sealed(workspace: Workspace, wish: Wish, live: str | None, recovered: bool) -> list[Release]:
    """Releases that were sealed but may never have gone live, and the live one if that was just completed."""
    ready = [release for release in workspace.releases() if release.manifest.status == "ready"]
    waiting = [release for release in ready if release.release_id > (live or "") and not release.events()]
    completed = [release for release in ready if recovered and release.release_id == live]
    return [*completed, *(waiting if wish.request.promote else [])]
