"""`samespace releases [show ID]`: what was published and what was held."""

from argparse import ArgumentParser, Namespace
from typing import Any

from pipeline.arguments import CommandResult, format_table, workspace_of
from stores.errors import CorruptError, NotFoundError
from stores.releases.release import Release
from stores.releases.workspace import Workspace

EXAMPLES = (
    "samespace releases --workspace ws",
    "samespace releases show --workspace ws                  # the live manifest",
    "samespace releases show 20260721T020000Z-3f9a --workspace ws --json",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("show", nargs="?", choices=["show"], help="show one manifest instead of the list")
    parser.add_argument("release_id", nargs="?", help="which one (default: the live one)")


def run(args: Namespace) -> CommandResult:
    """List the sealed releases, oldest first, or show one manifest."""
    workspace = workspace_of(args)
    return _show(workspace, args.release_id) if args.show else _list(workspace)


def _list(workspace: Workspace) -> CommandResult:
    live, damage = _pointed_to(workspace)
    rows = [row for release in workspace.releases() if (row := _row_of(release, live, damage))]
    short = [{**row, "model_id": row["model_id"][:12], "as_of": row["as_of"][:16]} for row in rows]
    remnants = [release.release_id for release in workspace.half_deleted()]
    staged = [release.release_id for release in workspace.staged() if release.release_id not in remnants]
    facts = {"releases": rows, "current": live, "staged": staged, "half_deleted": remnants, "damaged": damage}
    notes = [
        f"unfinished: {', '.join(staged)} (the next night resumes or removes it)" if staged else "",
        f"half-deleted: {', '.join(remnants)} (samespace gc removes the rest)" if remnants else "",
        *(f"damaged: {one['what']}\n  try: {one['fix']}" for one in damage),
    ]
    return CommandResult(facts, "\n".join([format_table(short), *filter(None, notes)]))


def _pointed_to(workspace: Workspace) -> tuple[str | None, list[dict[str, str]]]:
    """The live release, and the damage where nobody can say."""
    try:
        return (workspace.pointer() or {}).get("release_id"), []
    except CorruptError as error:
        return None, [{"what": error.what, "fix": error.fix}]


def _row_of(release: Release, live: str | None, damage: list[dict[str, str]]) -> dict[str, Any] | None:
    """A row of the list; None for a release that was dropped meanwhile or is damaged, which is added to `damage`."""
    try:
        return _row(release, live)
    except NotFoundError:
        return None
    except CorruptError as error:
        if release.sealed:
            damage.append({"what": error.what, "fix": error.fix})
        return None


def _row(release: Release, live: str | None) -> dict[str, Any]:
    manifest = release.manifest
    rows = {
        kind: sum(e.rows for e in manifest.files if e.path.startswith(f"{kind}/")) for kind in ("members", "titles")
    }
    return {
        "release_id": release.release_id,
        "status": "current" if release.release_id == live else manifest.status,
        "space_id": release.space_id,
        "model_id": manifest.model_id,
        "as_of": release.plan.as_of.isoformat(),
        **rows,
    }


def _show(workspace: Workspace, release_id: str | None) -> CommandResult:
    release = workspace.release(release_id) if release_id else workspace.current()
    facts = release.manifest.model_dump(mode="json") | {"events": release.events()}
    return CommandResult(facts, release.manifest.model_dump_json(indent=2))
