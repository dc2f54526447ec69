"""`samespace similar TITLE`: the titles most like a title."""

from argparse import ArgumentParser, Namespace

from pipeline.arguments import CommandResult, format_table, workspace_of
from stores.terminal import truncate

EXAMPLES = (
    "samespace similar 'Toy Story (1995)' --workspace ws",
    "samespace similar 1 -k 50 --json --workspace ws",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("title", help="a title's id, or a name that matches one")
    parser.add_argument("-k", type=int, default=10, help="how many titles (default: 10)")


def run(args: Namespace) -> CommandResult:
    """Search the live release's similarity index with the title's vector."""
    from retrieval.lookup import similar

    release = workspace_of(args).current()
    rows = similar(release, args.title, args.k)
    shown = [{**row, "name": truncate(row["name"] or "")} for row in rows]
    return CommandResult({"release_id": release.release_id, "title": args.title, "titles": rows}, format_table(shown))
