"""`samespace promote ID`: make a sealed release the live one."""

from argparse import ArgumentParser, Namespace

from pipeline.arguments import CommandResult, config_of
from pipeline.console import ConsoleReporter

EXAMPLES = (
    "samespace promote 20260721T020000Z-3f9a --workspace ws",
    "samespace promote 20260721T020000Z-3f9a --force --why 'holiday traffic, looked at it' --workspace ws",
    "samespace promote current --workspace ws                # write all features again",
    "samespace promote current --take-over --workspace ws    # ... into a store that another workspace had",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("release_id", help='the release, or "current" to write all its features again')
    parser.add_argument("--force", action="store_true", help="also a release that a gate held; needs --why")
    parser.add_argument(
        "--new-space", action="store_true", help="also a release that is not in the live space: it opens its own"
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="also into an online store of another workspace, whose rows are removed; it is refused from then on",
    )
    parser.add_argument("--why", default="", metavar="TEXT", help="kept with the release")


def run(args: Namespace) -> CommandResult:
    """Move the pointer, and the features that differ, to a release."""
    from pipeline.promotion import PromoteOptions, switch_to

    decision = PromoteOptions(args.force, args.new_space, args.why, args.take_over)
    switched = switch_to(config_of(args), args.release_id, decision, ConsoleReporter(args.json))
    release = switched.release
    done = f"the interrupted promote to {release.release_id} was completed; " if switched.completed else ""
    facts = {"current": release.release_id, "space_id": release.space_id, "completed": switched.completed}
    return CommandResult(facts, f"{done}live: {release.release_id}  space {release.space_id}")
