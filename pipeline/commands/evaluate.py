"""`samespace evaluate`: next-title quality of a model beside popularity baselines."""

from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from typing import Any

from pipeline.arguments import CommandResult, config_of, format_table, parse_time, quality_table
from pipeline.config import Config
from pipeline.console import ConsoleReporter
from stores.errors import NotFoundError
from stores.releases.workspace import Workspace

EXAMPLES = (
    "samespace evaluate --train --lake lake                    # train on the protocol's part, judge on the rest",
    "samespace evaluate --lake lake --workspace ws --json",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--protocol", choices=["leave-one-out", "time-split"], default="leave-one-out")
    parser.add_argument("--train", action="store_true", help="train the model on the protocol's own part first")
    parser.add_argument("--seed", type=int, default=0, help="seed of that training (default: 0)")
    parser.add_argument("--as-of", metavar="ISO", help="read the lake as of this moment (default: now)")


def run(args: Namespace) -> CommandResult:
    """Rank every title for every member's held-out one; exit code 2 where there is no model to judge."""
    from embeddings.histories.job import read_histories
    from stores.lake.contract import Lake

    config, tell = config_of(args), ConsoleReporter(args.json)
    as_of = parse_time(args.as_of) or datetime.now(UTC)
    lake = Lake.open(config.lake)
    data = read_histories(lake, as_of, config.histories)
    if args.train:
        metrics = _trained(config, lake, data, args, tell)
    else:
        metrics = _of_workspace(config, data, args.protocol)
        tell.line("note: this model was trained on the lake's past; only --train holds the answers back from it")
    return CommandResult(metrics, f"{args.protocol}, all titles ranked, seen ones left out:\n{_text(metrics)}")


def _trained(config: Config, lake: Any, data: Any, args: Namespace, tell: ConsoleReporter) -> dict[str, Any]:
    from embeddings.foundation import train_and_evaluate
    from embeddings.foundation.point_in_time import watch_bits
    from pipeline.model_training import format_progress, with_propensities
    from stores.progress import Progress

    tell.line(f"training on the {args.protocol} part of {data[0].num_rows:,} members and {data[1].num_rows:,} titles")

    def weigh(part: Any, moment: datetime) -> Any:
        return with_propensities(part, lake, config, moment)

    with Progress("train", 1, "steps") as progress:
        chosen = (
            config.train,
            args.seed,
            args.protocol,
            format_progress(progress),
            watch_bits(config.histories),
            weigh,
        )
        histories, catalogue = data
        return dict(train_and_evaluate(histories, catalogue, *chosen))


def _of_workspace(config: Config, data: Any, protocol: Any) -> dict[str, Any]:
    from embeddings.encode.encoder import load
    from embeddings.foundation import evaluate
    from embeddings.foundation.point_in_time import watch_bits

    workspace = Workspace.open(config.workspace)
    model_id = workspace.next_model()
    if model_id is None:
        raise NotFoundError("there is no model to evaluate", where=workspace.uri, fix="samespace train, or --train")
    with workspace.models.local_copy(model_id) as folder:
        encoder = load(config.encode.encoder, str(folder))
    histories, catalogue = data
    return {"model_id": model_id, **evaluate(histories, catalogue, encoder, protocol, watch_bits(config.histories))}


def _text(metrics: dict[str, Any]) -> str:
    parts = [quality_table(metrics)]
    for name in ("staleness", "slices"):
        if name in metrics:
            rows = [{name: key, **_numbers(figures)} for key, figures in metrics[name].items()]
            parts.append(format_table(rows))
    return "\n\n".join(parts)


def _numbers(figures: Any) -> dict[str, Any]:
    if not isinstance(figures, dict):
        return {"value": figures}
    return {name: value for name, value in figures.items() if isinstance(value, int | float)}
