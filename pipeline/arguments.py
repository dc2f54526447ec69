"""Results and common arguments of commands: facts for `--json`, text for people, an exit code."""

import math
from argparse import Namespace
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stores.errors import UsageError
from stores.terminal import escape_controls, one_line

if TYPE_CHECKING:
    from pipeline.config import Config
    from stores.releases.workspace import Workspace

DEFAULT_FILE = "samespace.toml"


@dataclass(frozen=True)
class CommandResult:
    """`facts` can be written as JSON; `text` is the same for a person.

    Every command's output passes here: in `text` nothing is left that could steer a terminal, and in `facts` numbers
    that are not finite are None, since JSON has no word for them.
    """

    facts: Any
    text: str
    exit_code: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "facts", finite(self.facts))
        object.__setattr__(self, "text", escape_controls(self.text))


def finite(value: Any) -> Any:
    """A value for JSON with None for every float that is not finite, at any depth."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def config_of(args: Namespace) -> "Config":
    """The configuration that a command line asks for."""
    from pipeline.config import read_config

    return read_config(args.config, args.set, lake=args.lake, workspace=args.workspace)


def workspace_of(args: Namespace) -> "Workspace":
    """The workspace that a command line names.

    Where nothing else is configured the rest of the configuration is not loaded: a command that looks has
    no use for it and answers in half the time.
    """
    from stores.releases.workspace import Workspace

    plain = args.workspace and not args.config and not args.set and not Path(DEFAULT_FILE).exists()
    return Workspace.open(args.workspace if plain else config_of(args).workspace)


def format_table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text with a header line; numbers to the right."""
    if not rows:
        return "(none)"
    cells = [list(rows[0])] + [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]))]
    numeric = [all(isinstance(row[name], int | float) for row in rows) for name in rows[0]]
    lines = (
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        )
        for line in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else one_line(str(value))


def parse_time(text: str | None) -> datetime | None:
    """A point in time from ISO text, in UTC where it names no zone. Raises UsageError where it is none."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"not a moment: {text!r}", expected="ISO 8601, for example 2026-07-21T02:00:00Z") from error
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


QUALITY_METRICS = ("hr@10", "ndcg@10", "coverage@10")


def quality_table(metrics: dict[str, Any]) -> str:
    """The figures of a model and of its `baselines`, one line each."""
    rows = [{"model": "this model", **_figures(metrics)}]
    rows += [{"model": name, **_figures(found)} for name, found in metrics["baselines"].items()]
    return format_table(rows)


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in QUALITY_METRICS}
