"""`samespace import movielens SRC OUT`: a MovieLens folder as a lake."""

from argparse import ArgumentParser, Namespace

from pipeline.arguments import CommandResult

EXAMPLES = ("samespace import movielens ml-latest-small lake",)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("kind", choices=["movielens"], help="what the source is")
    parser.add_argument("source", help="the unpacked folder")
    parser.add_argument("out", help="the folder to write")


def run(args: Namespace) -> CommandResult:
    """Write the lake."""
    from stores.lake.movielens import import_movielens

    facts = import_movielens(args.source, args.out)
    counts = ", ".join(f"{value:,} {name}" for name, value in facts.items() if isinstance(value, int))
    return CommandResult({"lake": args.out, **facts}, f"wrote {args.out}: {counts}")
