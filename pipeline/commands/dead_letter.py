"""`samespace dead-letter [ID]`: what was refused, why, where, and a few of the rows.

Nothing has to be put back by hand: the night reads the whole lake again, so rows that were mended at
their source are taken in by the next one.
"""

from argparse import ArgumentParser, Namespace
from typing import Any

from pipeline.answer import Answer, workspace_of
from stores.errors import NotFoundError
from stores.release import Release
from stores.workspace import Workspace

AGAIN = "mend these rows in the lake; the next night reads it again and takes them in"


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("release_id", nargs="?", help="which night, finished or not (default: the newest)")
    parser.add_argument("--examples", type=int, default=3, help="rows shown of each kind (default: 3)")


def run(args: Namespace) -> Answer:
    """Summarise the dead letter of a night, also of one that stopped because too many rows were refused."""
    from stores.dead_letter import groups

    release = _night(workspace_of(args), args.release_id)
    found = groups(release, args.examples)
    rows = sum(group["rows"] for group in found)
    facts = {
        "release_id": release.release_id,
        "rows": rows,
        "groups": found,
        "files": f"{release.storage.uri}/dead_letter",
    }
    return Answer(facts, _text(facts, args.examples))


def _night(workspace: Workspace, release_id: str | None) -> Release:
    """The night of an id, or the newest. Raises NotFoundError where there is none."""
    nights = {release.release_id: release for release in [*workspace.releases(), *workspace.staged()]}
    if not nights:
        raise NotFoundError("there was no night yet", where=workspace.uri, fix="samespace nightly --lake LAKE")
    chosen = release_id or max(nights)
    if chosen not in nights:
        raise NotFoundError(f"there is no night {chosen}", where=workspace.uri, expected=f"one of: {', '.join(nights)}")
    return nights[chosen]


def _text(facts: dict[str, Any], examples: int) -> str:
    if not facts["groups"]:
        return f"{facts['release_id']}: no row was refused"
    lines = [f"{facts['release_id']}: {facts['rows']:,} rows were refused, all in {facts['files']}"]
    for reason, groups in _by_reason(facts["groups"]):
        files = "one file" if len(groups) == 1 else f"{len(groups):,} files"
        lines.append(f"\n{sum(group['rows'] for group in groups):>9,}  {reason}, in {files}")
        shown = [(group["source"], example) for group in groups for example in group["examples"]]
        lines += [f"           {_example(source, example)}" for source, example in shown[:examples]]
    return "\n".join([*lines, f"\n{AGAIN}"])


def _by_reason(groups: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The groups of each reason and column, those with most rows first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        column = f" ({group['column']})" if group["column"] else ""
        found.setdefault(f"{group['reason']}{column}", []).append(group)
    return sorted(found.items(), key=lambda item: -sum(group["rows"] for group in item[1]))


def _example(source: str, example: dict[str, Any]) -> str:
    if example["row"] < 0:  # a letter that stands for many rows says so in its value
        return f"{source}: {example['value']}"
    value = "" if example["value"] is None else f": {example['value']!r}"
    return f"{source} row {example['row']:,}{value}"
