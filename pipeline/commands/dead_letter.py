"""`samespace dead-letter [ID]`: what was refused, why, where, and a few of the rows.

Nothing has to be put back by hand: the night reads the whole lake again, so rows that were mended at
their source are taken in by the next one. `--retry` says beforehand whether they would be.
"""

from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from typing import Any

from pipeline.arguments import CommandResult, config_of, format_table, parse_time, workspace_of
from stores.errors import NotFoundError
from stores.releases.release import Release
from stores.releases.workspace import Workspace
from stores.terminal import one_line

AGAIN = "mend these rows in the lake, then see with --retry whether the next night would take them in"
STOPS_EXIT = 3

EXAMPLES = (
    "samespace dead-letter --workspace ws                    # of the newest night",
    "samespace dead-letter 20260721T020000Z-3f9a --examples 10 --workspace ws",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("release_id", nargs="?", help="which night, finished or not (default: the newest)")
    parser.add_argument("--retry", action="store_true", help="judge the lake again: what the next night would take in")
    parser.add_argument("--as-of", metavar="ISO", help="with --retry, the moment of that next night (default: now)")
    parser.add_argument("--examples", type=int, default=3, help="rows shown of each kind (default: 3)")


def run(args: Namespace) -> CommandResult:
    """Summarise the dead letter of a night, also of one that stopped because too many rows were refused."""
    from stores.releases.dead_letter import group_release

    release = _night(workspace_of(args), args.release_id)
    if args.retry:
        return _retried(args, release)
    found = group_release(release, args.examples)
    rows = sum(group["rows"] for group in found)
    facts = {
        "release_id": release.release_id,
        "rows": rows,
        "groups": found,
        "files": f"{release.storage.uri}/dead_letter",
    }
    return CommandResult(facts, _text(facts, args.examples))


def _retried(args: Namespace, release: Release) -> CommandResult:
    """Judge the lake again as the next night would, and set the counts beside the dead letter's; changes nothing.

    Exit code 3 where that night would stop, as it would itself.
    """
    from embeddings.histories.job import simulate_rejections
    from stores.files.filesystem import Storage
    from stores.lake.contract import Lake
    from stores.publishing.suppression_list import read_suppression_list
    from stores.releases.dead_letter import group_release, group_tables

    config, plan = config_of(args), release.plan
    lake, as_of = config.lake or plan.lake, parse_time(args.as_of) or datetime.now(UTC)
    erased = read_suppression_list(Storage(release.workspace_uri))
    letters, stopped = simulate_rejections(Lake.open(lake), as_of, config.histories, plan.shards, erased)
    now = group_tables(letters.values(), args.examples)
    facts = {
        "release_id": release.release_id,
        "lake": lake,
        "as_of": as_of.isoformat(),
        "would_stop": stopped.what if stopped else "",
        "fix": stopped.fix if stopped else "",
        "kinds": _kinds(group_release(release, 0), now),
        "groups": now,
    }
    return CommandResult(facts, _retry_text(facts, args.examples), STOPS_EXIT if stopped else 0)


def _kinds(then: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of each reason and column then and now, and how many fewer there are; most frequent first."""
    before, after = (
        {kind: sum(group["rows"] for group in found) for kind, found in _by_reason(side)} for side in (then, now)
    )
    return [
        {
            "reason": kind,
            "refused": before.get(kind, 0),
            "still_refused": after.get(kind, 0),
            "mended": max(0, before.get(kind, 0) - after.get(kind, 0)),
        }
        for kind in sorted({*before, *after}, key=lambda kind: (-before.get(kind, 0), kind))
    ]


def _retry_text(facts: dict[str, Any], examples: int) -> str:
    if not facts["kinds"]:
        return f"{facts['release_id']}: no row was refused, and none would be now"
    parts = [f"{facts['release_id']} and the lake as it is now ({facts['lake']}):", format_table(facts["kinds"])]
    parts += [_kind_text(kind, groups, examples) for kind, groups in _by_reason(facts["groups"])]
    left = sum(kind["still_refused"] for kind in facts["kinds"])
    mended = sum(kind["mended"] for kind in facts["kinds"])
    if facts["would_stop"]:
        parts.append(f"the next night would stop: {facts['would_stop']}\n  try: {facts['fix']}")
    else:
        parts.append(f"the next night would take {mended:,} of these rows in and refuse {left:,}: samespace nightly")
    return "\n\n".join(parts)


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
    lines += [f"\n{_kind_text(reason, groups, examples)}" for reason, groups in _by_reason(facts["groups"])]
    return "\n".join([*lines, f"\n{AGAIN}"])


def _kind_text(reason: str, groups: list[dict[str, Any]], examples: int) -> str:
    """How many rows of a reason, in how many files, and a few of them."""
    files = "one file" if len(groups) == 1 else f"{len(groups):,} files"
    lines = [f"{sum(group['rows'] for group in groups):>9,}  {reason}, in {files}"]
    shown = [(group["source"], example) for group in groups for example in group["examples"]]
    return "\n".join([*lines, *(f"           {_example(source, example)}" for source, example in shown[:examples])])


def _by_reason(groups: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The groups of each reason and column, those with most rows first."""
    found: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        column = f" ({group['column']})" if group["column"] else ""
        found.setdefault(f"{group['reason']}{column}", []).append(group)
    return sorted(found.items(), key=lambda item: -sum(group["rows"] for group in item[1]))


def _example(source: str, example: dict[str, Any]) -> str:
    source = one_line(source)
    if example["row"] < 0:  # a letter that stands for many rows says so in its value
        return f"{source}: {one_line(str(example['value']))}"
    value = "" if example["value"] is None else f": {example['value']!r}"
    return f"{source} row {example['row']:,}{value}"
