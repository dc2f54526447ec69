"""`samespace report [ID]`: write a release's HTML report again."""

from argparse import ArgumentParser, Namespace

from pipeline.answer import Answer, workspace_of


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("release_id", nargs="?", help="which release (default: the live one)")


def run(args: Namespace) -> Answer:
    """Write the page and print where it is."""
    from validation.report import write_report

    workspace = workspace_of(args)
    release = workspace.release(args.release_id) if args.release_id else workspace.current()
    path = write_report(release)
    return Answer({"report": path}, path)
