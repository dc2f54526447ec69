"""`samespace backfill`: past nights with the live model, into the point-in-time history"""

from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime

from pipeline.arguments import CommandResult, config_of, parse_time

EXAMPLES = ("samespace backfill --lake lake --workspace ws --from 2026-06-01 --to 2026-06-30",)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--from", dest="first", metavar="ISO", required=True, help="the first night to fill")
    parser.add_argument("--to", dest="last", metavar="ISO", required=True, help="the last night to fill, included")
    parser.add_argument("--every", type=float, default=24.0, metavar="HOURS", help="between nights (default: 24)")


def run(args: Namespace) -> CommandResult:
    """Encode every night of the span with the live model and write what changed as rows of the history."""
    import stores.publishing.publish
    from pipeline.backfill import Backfill, Span
    from pipeline.console import ConsoleReporter
    from pipeline.ray_cluster import at_hand, ray_cluster
    from stores.errors import UsageError
    from stores.feast.ownership import require_ownership_early
    from stores.feast.repository import FeatureRepository
    from stores.releases.lease import lease
    from stores.releases.workspace import Workspace

    config, now = config_of(args), datetime.now(UTC)
    if not config.lake:
        raise UsageError("backfill needs a lake", fix="samespace backfill --lake LAKE --from ISO --to ISO")
    span = Span(parse_time(args.first) or now, parse_time(args.last) or now, args.every)
    workspace = Workspace.open(config.workspace)
    with at_hand(config.ray), lease(workspace.storage, "a backfill") as token, ray_cluster(config.ray):
        require_ownership_early(FeatureRepository(workspace.storage, config.publish))
        stores.publishing.publish.recover(workspace, config.publish, token)
        filled = Backfill(config, workspace, token).run(span, ConsoleReporter(args.json))
    rows = sum(int(str(night["members"])) for night in filled)
    text = f"{len(filled)} nights in the history, {rows:,} rows of members; get_historical_features sees them now"
    return CommandResult({"nights": filled}, text)
