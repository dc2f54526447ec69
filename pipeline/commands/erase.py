"""`samespace erase MEMBER`: remove a member from every release, the history and the online store."""

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass

from pipeline.arguments import CommandResult, config_of
from pipeline.config import Config
from stores.errors import BusyError, NotFoundError
from stores.publishing.erasure import PAGE, Receipt, erase, refuse_during_erasure, subject_of
from stores.publishing.publish import recover
from stores.releases.lease import lease
from stores.releases.release import Release
from stores.releases.workspace import Workspace
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


EXAMPLES = ("samespace erase 42 --why 'request 1718' --workspace ws",)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("member", help="the member's id")
    parser.add_argument("--why", default="", metavar="TEXT", help="kept with the receipt; name nobody in it")


def run(args: Namespace) -> CommandResult:
    """Erase a member, keep it out of later nights, and say what was rewritten; the same again does no harm."""

    erased = erase_member(config_of(args), args.member, args.why)
    receipt = erased.receipt
    releases = ", ".join(f"{name} (revision {revision})" for name, revision in receipt.releases.items())
    done = f"erased; receipt {receipt.subject[:16]}"
    if erased.completed:
        done = f"the interrupted erasure of this member was completed; receipt {receipt.subject[:16]}"
    lines = [
        done,
        *(f"erased before from {name}, at {at}" for name, at in erased.earlier.items()),
        f"releases rewritten: {releases or 'none'}",
        f"files of Feast's history rewritten: {receipt.history_files}",
        f"online views: {', '.join(receipt.views) or 'none'}",
        "not touched: the lake, backups, and the weights of models that were trained with the member",
    ]
    facts = receipt.model_dump() | {"completed": erased.completed, "erased_before": erased.earlier}
    return CommandResult(facts, "\n".join(lines))
