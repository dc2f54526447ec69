"""`samespace simulate OUT`: a simulated streaming service as a lake."""

from argparse import ArgumentParser, Namespace

from pydantic import ValidationError

from pipeline.arguments import CommandResult
from pipeline.config import config_error
from stores.lake.simulation.simulate import SimulationConfig, simulate

EXAMPLES = (
    "samespace simulate lake",
    "samespace simulate lake --members 20000 --titles 3000 --days 90 --broken 0.01",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments, with the simulation's own defaults."""
    default = SimulationConfig()
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--members", type=int, default=default.members)
    parser.add_argument("--titles", type=int, default=default.titles)
    parser.add_argument("--days", type=int, default=default.days)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--broken", type=float, default=default.broken, metavar="SHARE", help="share of broken rows")


def run(args: Namespace) -> CommandResult:
    """Write the lake; the planted truth lies beside it in `_truth/`."""
    names = ("members", "titles", "days", "seed", "broken")
    try:
        config = SimulationConfig(**{name: getattr(args, name) for name in names})
    except ValidationError as error:
        raise config_error(error, "samespace simulate") from error
    facts = simulate(args.out, config)
    counts = ", ".join(f"{value:,} {name}" for name, value in facts.items() if isinstance(value, int))
    return CommandResult({"lake": args.out, **facts}, f"wrote {args.out}: {counts}")
