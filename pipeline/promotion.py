"""Move the live release by hand: forward with `promote`, back with `rollback`, always under the lease."""

from contextlib import nullcontext
from dataclasses import dataclass

from pipeline.config import Config
from pipeline.console import ConsoleReporter, refresh_reports
from pipeline.ray_cluster import at_hand
from stores.errors import GateError, UsageError
from stores.feast.ownership import take_over_ownership
from stores.feast.repository import FeatureRepository
from stores.publishing.command_intent import interrupted_intent
from stores.publishing.journal import published_state
from stores.publishing.publish import COMPLETED, promote, recover, require_promotable, rollback
from stores.releases.lease import lease
from stores.releases.release import Release
from stores.releases.workspace import Workspace


@dataclass(frozen=True)
class PromoteOptions:
    """What a person decides beyond moving the pointer, and `why`.

    `force`: over a gate. `new_space`: into a space that is not live. `take_over_ownership`: into an online store that
    is another workspace's, whose rows are removed.
    """

    force: bool = False
    new_space: bool = False
    why: str = ""
    take_over: bool = False


@dataclass(frozen=True)
class Switched:
    """The release that is live now; `completed` where an interrupted run of the same command had made it so."""

    release: Release
    completed: bool = False


def switch_to(config: Config, release_id: str, decision: PromoteOptions, tell: ConsoleReporter) -> Switched:
    """Make a release live ("current": write its features again); what is live now.

    Raises NotFoundError for an unknown release, GateError for a held one unless forced with a reason and for one
    that would open a space unless that is decided, BusyError while a night runs.
    """
    workspace = Workspace.open(config.workspace)
    if decision.force and not decision.why:
        raise UsageError("a held release goes live only with a reason", fix="--force --why TEXT")
    ready = at_hand(config.ray) if decision.new_space else nullcontext()
    with ready, lease(workspace.storage, "promote") as token:
        if decision.take_over:
            _take_over(config, workspace, release_id, decision.force)
        recover(workspace, config.publish, token)
        if release_id != "current" and not _is_repeated(workspace, release_id):
            release = Release(workspace.uri, workspace.release(release_id).release_id, token)
            _require_new_space_flag(workspace, release, decision.new_space)
            if decision.new_space:
                from pipeline.new_space import open_new_space  # it brings every stage, which a promotion does not need

                open_new_space(config, release, decision.why, tell)
        report = promote(workspace, release_id, config.publish, why=decision.why, token=token, force=decision.force)
        refresh_reports(workspace, tell)
    return Switched(workspace.current(), bool(report.metrics.get(COMPLETED)))


def _is_repeated(workspace: Workspace, release_id: str) -> bool:
    """Whether an interrupted run of the same promote has made the release live: its decision was taken then."""
    live = (workspace.pointer() or {}).get("release_id") == release_id
    return live and interrupted_intent(workspace, "promote", {"release_id": release_id}) is not None


def _take_over(config: Config, workspace: Workspace, release_id: str, force: bool) -> None:
    """Make the online store this workspace's; only for a release that may go live, because rows are removed."""
    current = release_id == "current"
    release = workspace.current() if current else workspace.release(release_id)
    if not current and not force:
        require_promotable(release)
    take_over_ownership(
        FeatureRepository(workspace.storage, config.publish), {release.space_id, *published_state(workspace.storage)}
    )


def roll_back(config: Config, why: str, tell: ConsoleReporter) -> Switched:
    """Make the release live that was live before; what is live now. Raises NotFoundError if none was."""
    workspace = Workspace.open(config.workspace)
    workspace.current()
    with lease(workspace.storage, "rollback") as token:
        report = rollback(workspace, config.publish, why=why, token=token)
        refresh_reports(workspace, tell)
    return Switched(workspace.current(), bool(report.metrics.get(COMPLETED)))


def _opens_space(workspace: Workspace, release: Release) -> bool:
    """Whether a release lies in a space other than the live one that was never live; the first release does not."""
    pointer = workspace.pointer()
    if pointer is None or pointer["space_id"] == release.space_id:
        return False
    return not any(event.get("space_id") == release.space_id for one in workspace.releases() for event in one.events())


def _require_new_space_flag(workspace: Workspace, release: Release, decided: bool) -> None:
    """Raise GateError where a release would open a space and nobody decided it, UsageError for the reverse."""
    opens = _opens_space(workspace, release)
    if opens and not decided:
        live = workspace.current().space_id
        raise GateError(
            f"release {release.release_id} is not in the live space {live}; it would open space {release.space_id}",
            expected=f"vectors that the consumers of space {live} can read",
            fix="promote it with --new-space: it gets feature views of its own, those of the live space stay frozen",
        )
    if decided and not opens:
        raise UsageError(
            f"release {release.release_id} opens no space: {release.space_id} is or was live, or nothing was yet",
            fix="promote it without --new-space",
        )
