"""`samespace plan`: what tonight would do and take, or why it would refuse its input; changes nothing"""

from argparse import ArgumentParser, Namespace
from typing import Any

from pipeline.arguments import CommandResult, config_of, format_table, parse_time

EXAMPLES = (
    "samespace plan --lake lake --workspace ws",
    "samespace plan --lake lake --workspace ws --full --json",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--as-of", metavar="ISO", help="read the lake as of this moment (default: now)")
    parser.add_argument("--full", action="store_true", help="as if every member were to be encoded again")


def run(args: Namespace) -> CommandResult:
    """Rows, shards to do, time of each stage, memory, disk and cost of the next night.

    Raises what that night would raise about its input, so that it is known before an hour is spent.
    """
    from pipeline.cpu_availability import measure_cpu
    from pipeline.estimate import estimate, num_workers
    from pipeline.run_plan import NightRequest
    from pipeline.workload import estimate_judged_workload
    from stores.errors import UsageError
    from stores.releases.workspace import Workspace

    config = config_of(args)
    if not config.lake:
        raise UsageError("plan needs a lake", fix="samespace plan --lake LAKE")
    workspace = Workspace.open(config.workspace)
    request = NightRequest(parse_time(args.as_of), args.full)
    model_id = workspace.next_model()
    if model_id is None and workspace.pointer():
        model_id = workspace.current().manifest.model_id  # a model of one's own, taken to be the same tonight
    work = estimate_judged_workload(config, request, model_id, workspace)
    workers = num_workers(config.encode.workers)
    expected = estimate(work, workspace.releases()[::-1], config.plan, workers, measure_cpu())
    facts = {"model_id": model_id, "work": work.model_dump(), "estimate": expected.model_dump()}
    return CommandResult(facts, _text(facts))


def _text(facts: dict[str, Any]) -> str:
    work, expected = facts["work"], facts["estimate"]
    known = f"from {expected['nights']} timed nights" if expected["nights"] else "no night was timed yet: rough figures"
    lines = [
        f"{work['events']:,} events of {work['members']:,} members, {work['titles']:,} titles, {work['shards']} shards",
        f"{work['encoded']:,} members to encode, {work['carried']:,} to carry forward",
        "" if facts["model_id"] else "no model yet: training one comes first and is not in these figures",
        format_table([{"stage": name, "seconds": seconds} for name, seconds in expected["stages"].items()]),
        "",
        f"{expected['seconds']:,.0f} s ({known}), {expected['memory_mb']:,} MB memory, "
        f"{expected['disk_mb']:,} MB disk, cost {expected['cost']:.4f}",
    ]
    return "\n".join(line for line in lines if line or line == "")
