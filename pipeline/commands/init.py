"""`samespace init`: a commented samespace.toml with every key at its default."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from pipeline.arguments import DEFAULT_FILE, CommandResult
from stores.errors import UsageError

EXAMPLES = (
    "samespace init                      # samespace.toml in this folder, every key at its default",
    "samespace init night.toml",
    "samespace init --config night.toml --lake lake --workspace ws",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("path", nargs="?", help=f"the file to write (default: --config, else {DEFAULT_FILE})")


def run(args: Namespace) -> CommandResult:
    """Write the file, with the settings that the command line gives.

    Raises UsageError where there is one already, two are named, or its folder cannot be written.
    """
    from pipeline.config import default_config_toml, given, read_config

    path = _path(args)
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} is there already", fix="remove it first, or name another file")
    settings = {name: value for name, value in (("lake", args.lake), ("workspace", args.workspace)) if value}
    text = default_config_toml(given(args.set or [], settings))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", fix="name a file in a folder that is there"
        ) from error
    read_config(str(path))
    return CommandResult({"path": str(path)}, f"wrote {path}")


def _path(args: Namespace) -> Path:
    """The file that the argument or `--config` names."""
    named = {name for name in (args.path, args.config) if name}
    if len(named) > 1:
        raise UsageError(
            f"two files are named: {' and '.join(sorted(named))}", fix="name one, as argument or as --config"
        )
    return Path(named.pop() if named else DEFAULT_FILE)
