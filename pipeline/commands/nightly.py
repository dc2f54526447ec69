"""`samespace nightly`: the whole night."""

import json
import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from pipeline.arguments import CommandResult, config_of, parse_time, quality_table
from pipeline.config import Config
from pipeline.console import ConsoleReporter
from pipeline.nightly import NightResult, run_night
from pipeline.prometheus_textfile import write_metrics_file
from pipeline.run_plan import NightRequest, with_dead_letter_hint
from stores.errors import ConfigError, ContractError
from stores.feast.repository import FeatureRepository
from stores.files.filesystem import Storage
from stores.releases.workspace import Workspace

GATE_EXIT = 4

EXAMPLES = (
    "samespace nightly --lake lake --workspace ws",
    "samespace nightly --config samespace.toml --as-of 2026-07-21T02:00:00Z",
    "samespace nightly --lake lake --workspace ws --no-promote   # publish later, with promote",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--as-of", metavar="ISO", help="read the lake as of this moment (default: now)")
    parser.add_argument("--full", action="store_true", help="encode every member again")
    parser.add_argument("--no-promote", action="store_true", help="seal the release but do not make it live")


def run(args: Namespace) -> CommandResult:
    """Run the night, or resume the one that was interrupted; exit code 4 where a gate holds it."""
    tell = ConsoleReporter(args.json)
    config = config_of(args)
    if not config.lake:
        config = config.model_copy(update={"lake": _simulated_lake(tell)})
    try:
        night = run_night(config, NightRequest(parse_time(args.as_of), args.full, not args.no_promote), tell)
    except ContractError as error:
        raise with_dead_letter_hint(error, Workspace.open(config.workspace)) from error
    _write_metrics(config, night, tell)
    facts = _facts(config, night)
    return CommandResult(facts, _text(config, night, facts), 0 if night.manifest.status == "ready" else GATE_EXIT)


def _write_metrics(config: Config, night: NightResult, tell: ConsoleReporter) -> None:
    """The figures for Prometheus, if asked for; the night is over, so that a failure is only told."""
    if not config.night.metrics_file:
        return
    try:
        write_metrics_file(config.night.metrics_file, night.manifest, night.live, night.after)
    except ConfigError as error:
        tell.line(f"  {error}")


def _simulated_lake(tell: ConsoleReporter) -> str:
    """The lake of a first try: `lake` in this folder, simulated where there is none."""
    lake, part = Path("lake"), Path("lake.part")
    if not lake.exists():
        from stores.lake.simulation.simulate import SimulationConfig, simulate

        tell.line("no lake given: simulating a streaming service into lake/")
        shutil.rmtree(part, ignore_errors=True)
        simulate(str(part), SimulationConfig())
        part.rename(lake)
    return str(lake)


def _facts(config: Config, night: NightResult) -> dict[str, Any]:
    manifest = night.manifest
    return {
        "release_id": manifest.release_id,
        "status": manifest.status,
        "live": night.live,
        "reasons": manifest.reasons,
        "space_id": manifest.space_id,
        "model_id": manifest.model_id,
        "workspace": config.workspace,
        "report": f"{config.workspace}/releases/{manifest.release_id}/report.html",
        "quality": _quality(Workspace.open(config.workspace), manifest.model_id),
        "stages": {report.name: report.model_dump(mode="json") for report in manifest.stages},
    }


def _quality(workspace: Workspace, model_id: str) -> dict[str, Any]:
    """The model's own held-out figures, where it has them (a model of one's own need not)."""
    path = f"{model_id}/metrics.json"
    return json.loads(workspace.models.read(path)) if workspace.models.exists(path) else {}


def _text(config: Config, night: NightResult, facts: dict[str, Any]) -> str:
    if night.manifest.status == "held":
        reasons = "\n".join(f"  - {reason}" for reason in night.manifest.reasons)
        return f"\nheld: {facts['release_id']} is not published; what was live stays live\n{reasons}\n{facts['report']}"
    parts = [f"\n{'live' if night.live else 'ready, not live'}: {facts['release_id']}  space {facts['space_id']}"]
    if facts["quality"]:
        parts.append(f"next title, held out, all titles ranked:\n{quality_table(facts['quality'])}")
    return "\n\n".join([*parts, _next_steps(config, facts)])


def _next_steps(config: Config, facts: dict[str, Any]) -> str:
    there = f"--workspace {config.workspace}"
    return f"""next:
  samespace similar TITLE {there}      titles like a title (id or name)
  samespace candidates MEMBER {there}  the best titles for a member
  samespace releases {there}           what is live, what was held
  open {facts["report"]}
  python -c "from feast import FeatureStore; print(FeatureStore('{_repository(config)}').list_feature_views())\""""


def _repository(config: Config) -> str:
    """The folder that a Feast user opens."""
    place = FeatureRepository(Storage(config.workspace), config.publish).path
    return f"{config.workspace}/feast" if Storage(config.workspace).is_local else str(place)
