"""`samespace rollback`: the release that was live before, live again."""

from argparse import ArgumentParser, Namespace

from pipeline.answer import Answer, config_of
from pipeline.telling import Teller

EXAMPLES = ("samespace rollback --why 'odd neighbours for series' --workspace ws",)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--why", default="", metavar="TEXT", help="kept with the release")


def run(args: Namespace) -> Answer:
    """Move the pointer, and the features that differ, back to the release that was live before."""
    from pipeline.switching import roll_back

    release = roll_back(config_of(args), args.why, Teller(args.json))
    return Answer({"current": release.release_id}, f"live again: {release.release_id}")
