"""`samespace rollback`: the release that was live before, live again."""

from argparse import ArgumentParser, Namespace

from pipeline.arguments import CommandResult, config_of
from pipeline.console import ConsoleReporter

EXAMPLES = ("samespace rollback --why 'odd neighbours for series' --workspace ws",)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--why", default="", metavar="TEXT", help="kept with the release")


def run(args: Namespace) -> CommandResult:
    """Move the pointer, and the features that differ, back to the release that was live before."""
    from pipeline.promotion import roll_back

    switched = roll_back(config_of(args), args.why, ConsoleReporter(args.json))
    facts = {"current": switched.release.release_id, "completed": switched.completed}
    if not switched.completed:
        return CommandResult(facts, f"live again: {facts['current']}")
    return CommandResult(
        facts,
        f"the interrupted rollback to {facts['current']} was completed; give the command again to go back once more",
    )
