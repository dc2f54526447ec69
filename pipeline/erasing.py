"""Erasing a member under the lease, and writing the reports anew, which erasing removes."""

from pipeline.config import Config
from stores.erasure import Receipt, erase
from stores.lease import lease
from stores.publish import recover
from stores.workspace import Workspace
from validation.report import write_report

PAGE = "report.html"


def erase_member(config: Config, member: str, why: str) -> Receipt:
    """Remove a member from all that the workspace keeps; the receipt.

    Raises NotFoundError where nothing is published or there can be no such id, BusyError while a night runs.
    """
    workspace = Workspace.open(config.workspace)
    workspace.current()
    with lease(workspace.storage, "erase") as token:
        recover(workspace, config.publish, token)
        reported = [one.release_id for one in workspace.releases() if one.storage.exists(PAGE)]
        receipt = erase(workspace, member, config.publish, token, why)
        for release_id in reported:
            write_report(workspace.release(release_id))
    return receipt
