"""`samespace gc`: drop old releases, and models that ran only in them."""

from argparse import ArgumentParser, Namespace

from pipeline.arguments import CommandResult, workspace_of
from stores.errors import UsageError

EXAMPLES = ("samespace gc --keep 14 --workspace ws",)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--keep", type=int, default=7, help="how many of the newest stay (default: 7)")


def run(args: Namespace) -> CommandResult:
    """Remove releases beyond the newest and models only they ran; never what is live or the reference of its space."""
    from stores.publishing.retention import collect_garbage
    from stores.releases.lease import lease

    if args.keep < 1:
        raise UsageError(f"cannot keep {args.keep} releases", expected="--keep 1 or more")
    workspace = workspace_of(args)
    with lease(workspace.storage, "gc") as token:
        gone = collect_garbage(workspace, args.keep, token)
    return CommandResult({"dropped": gone}, "\n".join(f"dropped {name}" for name in gone) or "nothing to drop")
