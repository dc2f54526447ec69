"""`samespace releases [show ID]`: what was published and what was held."""

from argparse import ArgumentParser, Namespace
from typing import Any

from pipeline.answer import Answer, table, workspace_of
from stores.release import Release
from stores.workspace import Workspace

EXAMPLES = (
    "samespace releases --workspace ws",
    "samespace releases show --workspace ws                  # the live manifest",
    "samespace releases show 20260721T020000Z-3f9a --workspace ws --json",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("show", nargs="?", choices=["show"], help="show one manifest instead of the list")
    parser.add_argument("release_id", nargs="?", help="which one (default: the live one)")


def run(args: Namespace) -> Answer:
    """List the sealed releases, oldest first, or show one manifest."""
    workspace = workspace_of(args)
    return _show(workspace, args.release_id) if args.show else _list(workspace)


def _list(workspace: Workspace) -> Answer:
    live = (workspace.pointer() or {}).get("release_id")
    rows = [_row(release, live) for release in workspace.releases()]
    short = [{**row, "model_id": row["model_id"][:12], "as_of": row["as_of"][:16]} for row in rows]
    staged = [release.release_id for release in workspace.staged()]
    unfinished = f"\nunfinished: {', '.join(staged)} (the next night resumes or removes it)" if staged else ""
    return Answer({"releases": rows, "current": live, "staged": staged}, table(short) + unfinished)


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


def _show(workspace: Workspace, release_id: str | None) -> Answer:
    release = workspace.release(release_id) if release_id else workspace.current()
    facts = release.manifest.model_dump(mode="json") | {"events": release.events()}
    return Answer(facts, release.manifest.model_dump_json(indent=2))
