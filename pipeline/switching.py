"""Moving the live release by hand: forward with `promote`, back with `rollback`, always under the lease."""

from pipeline.config import Config
from stores.errors import UsageError
from stores.lease import lease
from stores.publish import promote, rollback
from stores.release import Release
from stores.workspace import Workspace


def switch_to(config: Config, release_id: str, force: bool, why: str) -> Release:
    """Make a release live ("current": write its features again); the release that is live now.

    Raises NotFoundError for an unknown release, GateError for a held one unless forced with a reason,
    BusyError while a night runs.
    """
    workspace = Workspace.open(config.workspace)
    if force and not why:
        raise UsageError("a held release goes live only with a reason", fix="--force --why TEXT")
    with lease(workspace.storage, "promote") as token:
        promote(workspace, release_id, config.publish, why=why, token=token, force=force)
    return workspace.current()


def roll_back(config: Config, why: str) -> Release:
    """Make the release live that was live before; the release that is live now. Raises NotFoundError if none was."""
    workspace = Workspace.open(config.workspace)
    workspace.current()
    with lease(workspace.storage, "rollback") as token:
        rollback(workspace, config.publish, why=why, token=token)
    return workspace.current()
