"""Erasing a member under the lease; reports, which erasing removes, are written anew, and never beside an erasure."""

from dataclasses import dataclass

from pipeline.config import Config
from stores.erasure import PAGE, Receipt, erase, refuse_during_erasure, subject_of
from stores.errors import BusyError, NotFoundError
from stores.lease import lease
from stores.publish import recover
from stores.release import Release
from stores.workspace import Workspace
from validation.report import write_report

__all__ = ["PAGE", "Erased", "erase_member", "report_of"]


@dataclass(frozen=True)
class Erased:
    """The receipt of an erasure; `completed` where an earlier run that was interrupted had begun it.

    `earlier` are the moments, by release, at which receipts say that the member was erased before.
    """

    receipt: Receipt
    completed: bool
    earlier: dict[str, str]


def erase_member(config: Config, member: str, why: str) -> Erased:
    """Remove a member from all that the workspace keeps.

    Raises NotFoundError where nothing is published or there can be no such id, BusyError while a night runs.
    """
    workspace = Workspace.open(config.workspace)
    workspace.current()
    with lease(workspace.storage, "erase") as token:
        recovered = recover(workspace, config.publish, token, write_report)
        done = recovered.receipt if recovered is not None else None
        if done is not None and done.subject == subject_of(workspace, member):
            return Erased(done, completed=True, earlier={})
        earlier = _receipts(workspace, subject_of(workspace, member))
        return Erased(erase(workspace, member, config.publish, token, why, write_report), False, earlier)


def _receipts(workspace: Workspace, subject: str) -> dict[str, str]:
    """When each release was rewritten without a member, by release."""
    return {
        release.release_id: str(event["at"])
        for release in workspace.releases()
        for event in release.events()
        if event["event"] == "erased" and event.get("subject") == subject
    }


def report_of(workspace: Workspace, release: Release, data_docs: bool = False) -> list[str]:
    """Write the report of a sealed release, and Great Expectations' pages if asked for; their paths or URIs.

    Raises BusyError where a member is being erased or was erased meanwhile, and NotFoundError where the release was
    dropped meanwhile: then no page is left, because it may show the member or lie where no release is.
    """
    refuse_during_erasure(workspace)
    revision = release.manifest.revision
    pages = [write_report(release), *(_data_docs(release) if data_docs else [])]
    try:
        refuse_during_erasure(workspace)
        if _revision(release) != revision:
            raise BusyError(f"a member was erased from {release.release_id} meanwhile", fix="run the command again")
    except NotFoundError:
        workspace.remove(release)
        raise
    except BusyError:
        for page in pages:
            release.storage.delete(page.removeprefix(f"{release.storage.uri}/"))
        raise
    return pages


def _data_docs(release: Release) -> list[str]:
    from validation.data_docs import write_data_docs  # it brings Great Expectations, which the report does not need

    return write_data_docs(release)


def _revision(release: Release) -> int:
    """The revision of a release now. Raises NotFoundError where it was dropped."""
    return Release(release.workspace_uri, release.release_id).manifest.revision
