"""Plan a run: which snapshot, model and space, and whether an interrupted night resumes."""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from embeddings.histories.job import plan_shards, simulate_rejections
from pipeline.config import Config
from stores.errors import ContractError, CorruptError, NotFoundError
from stores.feast.repository import FeatureRepository, PublishConfig
from stores.lake.contract import Lake
from stores.publishing import command_intent
from stores.publishing.publish import Recovery
from stores.publishing.suppression_list import read_suppression_list
from stores.releases import dead_letter
from stores.releases.previous_space import opener_of
from stores.releases.release import EVENTS, Plan, Release
from stores.releases.workspace import Workspace, remove_work_files

PLAN_HASH_SECTIONS = ("histories", "encode", "align", "gate", "index", "features", "candidates")
FIRST_SPACE = "1"


@dataclass(frozen=True)
class NightRequest:
    """What the caller of a night may choose: the moment (default: now), to encode everything, not to go live."""

    as_of: datetime | None = None
    full: bool = False
    promote: bool = True


@dataclass(frozen=True)
class RunInputs:
    """All that decides what a night's content will be; equal wishes make equal releases."""

    config: Config
    request: NightRequest
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
            "previous_spaces_until": self.config.publish.previous_spaces_until,
            "config": {name: getattr(self.config, name).model_dump(mode="json") for name in PLAN_HASH_SECTIONS},
        }
        return hashlib.sha256(json.dumps(wish, sort_keys=True, default=str).encode()).hexdigest()


def require_same_ids(lake: Lake, workspace: Workspace, config: PublishConfig) -> None:
    """Raise ContractError where the lake's ids have another type than those that the workspace has published."""
    entities = FeatureRepository(workspace.storage, config).described()["entities"]
    for entity in entities.values():
        kind = "int64" if pa.types.is_integer(lake.id_type(entity["join_key"])) else "string"
        if kind != entity["id"]:
            raise ContractError(
                f"{entity['join_key']} is {kind} in most rows of the lake, this workspace has published {entity['id']}",
                where=lake.storage.uri,
                expected="ids of one type in all releases of a workspace",
                fix="write the ids as they were before, or use a new workspace for the other ids",
            )


def begin_night(
    workspace: Workspace, wish: RunInputs, token: int, recovered: Recovery | None
) -> tuple[Release, bool, command_intent.CommandIntent]:
    """As `begin`, where an earlier run of the same command may have been interrupted before its answer was printed.

    Its release goes on whatever became of it: sealed, held or live already. Close the intent where the night ends.
    """
    request = wish.request
    asked = {"as_of": request.as_of and request.as_of.isoformat(), "full": request.full, "promote": request.promote}
    earlier = command_intent.interrupted_intent(workspace, "nightly", asked)
    moved = recovered is not None and recovered.move is not None
    release, resumed = resume_or_stage(workspace, wish, token, moved, earlier.target if earlier else None)
    return release, resumed, command_intent.record_intent(workspace, "nightly", asked, release.release_id)


def resume_or_stage(
    workspace: Workspace, wish: RunInputs, token: int, recovered: bool, target: str | None = None
) -> tuple[Release, bool]:
    """The release to work on, and whether it is an interrupted night's that goes on.

    A release with the same plan hash that was not finished goes on, with its own moment and id: a staged one
    where it was, a sealed one that never went live by going live, one whose publication was just completed
    (`recovered`) or that an interrupted run of the same command made (`target`) as it is. Other staged ones are
    removed.
    """
    now = datetime.now(UTC)
    if unfinished := _resumable_release(workspace, wish, now, recovered, target):
        remove_work_files(unfinished)
        return Release(workspace.uri, unfinished.release_id, token), True
    return workspace.stage(_plan(workspace, wish, now), token), False


def _plan(workspace: Workspace, wish: RunInputs, now: datetime) -> Plan:
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


def _resumable_release(
    workspace: Workspace, wish: RunInputs, now: datetime, recovered: bool, target: str | None
) -> Release | None:
    """The release that goes on, if there is one; staged ones that do not are removed."""
    oldest = now - timedelta(hours=wish.config.night.resume_within_h)
    live = (workspace.pointer() or {}).get("release_id")
    found = None
    for release in [*_sealed(workspace, wish, live, recovered, target), *workspace.staged()]:
        plan = _readable_plan(release)
        # What is live now was planned on top of what was live before it.
        base = plan.previous_release if plan and release.release_id == live else live
        if plan and plan.plan_hash == wish.hash(base) and plan.created_at >= oldest:
            found = release
        elif not release.sealed:
            workspace.remove(release)
    return found


def _readable_plan(release: Release) -> Plan | None:
    """The plan of a release; None where it has none or it is damaged, so that no night can go on with it."""
    try:
        return release.plan if release.storage.exists("plan.json") else None
    except CorruptError:
        return None


def _sealed(
    workspace: Workspace, wish: RunInputs, live: str | None, recovered: bool, target: str | None
) -> list[Release]:
    """Releases that were sealed but may never have gone live, the live one if that was just completed, and a target."""
    releases = workspace.releases()
    ready = [release for release in releases if _status(release) == "ready"]
    waiting = [release for release in ready if release.release_id > (live or "") and _has_no_event(release)]
    completed = [release for release in ready if recovered and release.release_id == live]
    meant = [release for release in releases if release.release_id == target and _status(release)]
    return [*completed, *meant, *(waiting if wish.request.promote else [])]


def _status(release: Release) -> str:
    """The status of a sealed release; "" where its manifest is damaged, which the doctor names."""
    try:
        return release.manifest.status
    except CorruptError:
        return ""


def _has_no_event(release: Release) -> bool:
    return not release.storage.files(EVENTS)


NO_MODEL = ""


def stage_rejected_rows(config: Config, workspace: Workspace, request: NightRequest, token: int) -> None:
    """Stage a night without a model that holds the refused rows of its input, for `samespace dead-letter`.

    A lake that cannot be opened has no rows that could be listed: nothing is staged. The next night removes it.
    """
    with suppress(ContractError, NotFoundError):
        lake, as_of = Lake.open(config.lake), request.as_of or datetime.now(UTC)
        letters, _ = simulate_rejections(lake, as_of, config.histories, 1, read_suppression_list(workspace.storage))
        release, _ = resume_or_stage(
            workspace, RunInputs(config, request, NO_MODEL, lake.fingerprint()), token, recovered=False
        )
        for name, table in letters.items():
            dead_letter.write_dead_letter(release, name, table)


def with_dead_letter_hint(error: ContractError, workspace: Workspace) -> ContractError:
    """The error of a refused input with the command that lists its rows, where a night kept them."""
    if not any(release.storage.files(dead_letter.DEAD_LETTER_FOLDER) for release in workspace.staged()):
        return error
    fix = f"{error.fix}; samespace dead-letter --workspace {workspace.uri} lists the refused rows"
    return ContractError(error.what, where=error.where, expected=error.expected, fix=fix)
