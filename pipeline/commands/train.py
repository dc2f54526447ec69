"""`samespace train`: train the foundation model; the next night runs it. Or fine-tune one, or teach it more tasks."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from pipeline.arguments import CommandResult, config_of, parse_time
from pipeline.console import ConsoleReporter
from pipeline.model_training import fine_tune_model, train_model, train_tasks
from stores.releases.workspace import Workspace

EXAMPLES = (
    "samespace train --lake lake --workspace ws",
    "samespace train --lake lake --workspace ws --as-of 2026-07-01 --seed 1",
)

BARS = "▁▂▃▄▅▆▇█"


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--as-of", metavar="ISO", help="train on the lake as of this moment (default: now)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random choice (default: 0)")
    parser.add_argument("--from", dest="parent", metavar="MODEL_ID", help="go on from this model of the workspace")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--fine-tune",
        action="store_true",
        help="let that model (default: the night's) learn an application's lake, as [train.fine_tune] says; "
        "the night's model stays as it is",
    )
    how.add_argument(
        "--tasks",
        action="store_true",
        help="teach that model the tasks of [tasks], on experts beside its weights; each task gets a model of its own",
    )


def run(args: Namespace) -> CommandResult:
    """Train on the lake, save the model in the workspace, and make it the next night's; or go on from a model there."""
    config = config_of(args)
    workspace = Workspace.open(config.workspace)
    if args.tasks:
        found = train_tasks(
            config, workspace, parse_time(args.as_of), args.seed, ConsoleReporter(args.json), args.parent
        )
        return CommandResult(found, "\n".join(_taught(found)))
    learn = fine_tune_model if args.fine_tune else train_model
    model = learn(config, workspace, parse_time(args.as_of), args.seed, ConsoleReporter(args.json), args.parent)
    facts = {"model_id": model.model_id, "path": str(model.path), **model.metrics}
    figures = ", ".join(f"{name} {model.metrics[name]:.4f}" for name in ("hr@10", "ndcg@10", "coverage@10"))
    return CommandResult(facts, f"model {model.model_id} in {model.path}\nheld-out last title: {figures}")


def _taught(found: dict[str, Any]) -> Iterator[str]:
    """A line for each task: its model, bars for its share of the turns of each round, what it lost first and now."""
    highest = max(max(shares) for shares in found["shares"])
    for at, (task, model) in enumerate(found["models"].items()):
        bars = "".join(BARS[int(shares[at] / highest * (len(BARS) - 1))] for shares in found["shares"])
        kept = found["kept"][task]
        loss = f"  held-out loss {kept['first']:.4f} -> {kept['loss']:.4f}" if kept else ""
        yield f"{task:12s} model {model}  turns {bars}{loss}"
