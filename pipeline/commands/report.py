"""`samespace report [ID]`: write a release's HTML report again, and on request Great Expectations' own pages."""

from argparse import ArgumentParser, Namespace

from pipeline.arguments import CommandResult, workspace_of

EXAMPLES = (
    "samespace report --workspace ws                         # of the live release",
    "samespace report --data-docs --workspace ws             # with a page for each gate by Great Expectations",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("release_id", nargs="?", help="which release (default: the live one)")
    parser.add_argument(
        "--data-docs", action="store_true", help="also write Great Expectations' pages of the checks into data_docs/"
    )


def run(args: Namespace) -> CommandResult:
    """Write the page, and the Data Docs if asked for; print where they are."""
    from pipeline.commands.erase import report_of

    workspace = workspace_of(args)
    release = workspace.release(args.release_id) if args.release_id else workspace.current()
    path, *pages = report_of(workspace, release, args.data_docs)
    if not args.data_docs:
        return CommandResult({"report": path}, path)
    return CommandResult({"report": path, "data_docs": pages}, "\n".join([path, *pages]))
