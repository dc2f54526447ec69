"""`samespace plan`: what tonight would do and take, or why it would refuse its input; changes nothing"""

from argparse import ArgumentParser, Namespace
from typing import Any

from pipeline.answer import Answer, config_of, moment, table

EXAMPLES = (
    "samespace plan --lake lake --workspace ws",
    "samespace plan --lake lake --workspace ws --full --json",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--as-of", metavar="ISO", help="read the lake as of this moment (default: now)")
    parser.add_argument("--full", action="store_true", help="as if every member were to be encoded again")


def run(args: Namespace) -> Answer:
    """Rows, shards to do, time of each stage, memory, disk and cost of the next night.

    Raises what that night would raise about its input, so that it is known before an hour is spent.
    """
    from pipeline.estimate import estimate, processors
    from pipeline.foresight import foresee_judged
    from pipeline.planning import Request
    from pipeline.share import look
    from stores.errors import UsageError
    from stores.workspace import Workspace

    config = config_of(args)
    if not config.lake:
        raise UsageError("plan needs a lake", fix="samespace plan --lake LAKE")
    workspace = Workspace.open(config.workspace)
    request = Request(moment(args.as_of), args.full)
    model_id = workspace.next_model()
    if model_id is None and workspace.pointer():
        model_id = workspace.current().manifest.model_id  # a model of one's own, taken to be the same tonight
    work = foresee_judged(config, request, model_id, workspace)
    workers = processors(config.encode.workers)
    expected = estimate(work, workspace.releases()[::-1], config.plan, workers, look())
    facts = {"model_id": model_id, "work": work.model_dump(), "estimate": expected.model_dump()}
    return Answer(facts, _text(facts))


def _text(facts: dict[str, Any]) -> str:
    work, expected = facts["work"], facts["estimate"]
    known = f"from {expected['nights']} timed nights" if expected["nights"] else "no night was timed yet: rough figures"
    lines = [
        f"{work['events']:,} events of {work['members']:,} members, {work['titles']:,} titles, {work['shards']} shards",
        f"{work['encoded']:,} members to encode, {work['carried']:,} to carry forward",
        "" if facts["model_id"] else "no model yet: training one comes first and is not in these figures",
        table([{"stage": name, "seconds": seconds} for name, seconds in expected["stages"].items()]),
        "",
        f"{expected['seconds']:,.0f} s ({known}), {expected['memory_mb']:,} MB memory, "
        f"{expected['disk_mb']:,} MB disk, cost {expected['cost']:.4f}",
    ]
    return "\n".join(line for line in lines if line or line == "")
