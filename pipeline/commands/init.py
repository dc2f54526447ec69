"""`samespace init`: a commented samespace.toml with every key at its default."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pipeline.answer import Answer
from stores.errors import UsageError

EXAMPLES = (
    "samespace init                      # samespace.toml in this folder, every key at its default",
    "samespace init night.toml",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("path", nargs="?", default="samespace.toml", help="the file to write")


def run(args: Namespace) -> Answer:
    """Write the file. Raises UsageError where there is one already."""
    from pipeline.sample import sample_toml

    path = Path(args.path)
    if path.exists():
        raise UsageError(f"{path} is there already", fix="remove it first, or name another file")
    path.write_text(sample_toml(), encoding="utf-8")
    return Answer({"path": str(path)}, f"wrote {path}")
