"""`samespace candidates MEMBER`: the best titles for a member."""

from argparse import ArgumentParser, BooleanOptionalAction, Namespace

from pipeline.arguments import CommandResult, format_table, workspace_of
from stores.terminal import truncate

EXAMPLES = (
    "samespace candidates 42 --workspace ws",
    "samespace candidates 42 -k 50 --country GB --max-maturity 12 --json --workspace ws",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("member", help="the member's id")
    parser.add_argument("-k", type=int, default=10, help="how many titles (default: 10)")
    parser.add_argument("--exclude-seen", action=BooleanOptionalAction, default=True, help="leave out seen titles")
    parser.add_argument("--country", help="only titles available there")
    parser.add_argument("--max-maturity", type=int, help="only titles up to this maturity")


def run(args: Namespace) -> CommandResult:
    """Search the live release's candidate index with the member's vector."""
    from retrieval.lookup import candidates

    release = workspace_of(args).current()
    rows = candidates(release, args.member, args.k, args.exclude_seen, args.country, args.max_maturity)
    shown = [{**row, "name": truncate(row["name"] or "")} for row in rows]
    return CommandResult(
        {"release_id": release.release_id, "member_id": args.member, "titles": rows}, format_table(shown)
    )
