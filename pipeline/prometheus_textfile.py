"""A night's figures for Prometheus: one text file that node_exporter's textfile collector picks up.

Only nights that were sealed write it: live, held, or taken back by the readback. A night that crashed or stopped leaves
the file of the one before, so an alert on the age of `samespace_night_sealed_timestamp_seconds` notices both. Format:
Prometheus' text exposition format 0.0.4.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from stores.errors import ConfigError
from stores.releases.release import Manifest, StageReport

Sample = tuple[str, dict[str, str], float]
_HELP = {
    "night_info": "The last sealed night; its value is 1.",
    "night_live": "Whether that night's release went live.",
    "night_sealed_timestamp_seconds": "When it was sealed, in seconds since 1970.",
    "stage_seconds": "How long each of its stages took.",
    "stage_rows": "How many rows each of its stages handled.",
    "checks_failed": "Checks of each gate that were not met, by what a failure does.",
    "figure": "What each check of each gate observed.",
}


def write_metrics_file(path: str, manifest: Manifest, live: bool, after: Sequence[StageReport] = ()) -> None:
    """Replace the file at `path` in one step; `after` are reports of what followed the sealing.

    Raises ConfigError where it cannot be written.
    """
    part = Path(f"{path}.part")
    try:
        part.write_text(exposition(manifest, live, after), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        why, fix = f"the metrics file cannot be written: {error.strerror}", "name a file in a folder that is there"
        raise ConfigError(why, where=path, expected="night.metrics_file in a writable folder", fix=fix) from error


def exposition(manifest: Manifest, live: bool, after: Sequence[StageReport] = ()) -> str:
    """The text of the file; the samples of a metric stand together, as the format demands."""
    samples = list(_samples(manifest, live, after))
    lines = []
    for metric, text in _HELP.items():
        found = [sample for sample in samples if sample[0] == metric]
        lines += [f"# HELP samespace_{metric} {text}", f"# TYPE samespace_{metric} gauge"] if found else []
        lines += [f"samespace_{metric}{_labels(labels)} {value!r}" for _, labels, value in found]
    return "\n".join(lines) + "\n"


def _samples(manifest: Manifest, live: bool, after: Sequence[StageReport]) -> Iterator[Sample]:
    papers = {"release_id": manifest.release_id, "status": manifest.status, "model_id": manifest.model_id}
    yield "night_info", {**papers, "space_id": manifest.space_id}, 1.0
    yield "night_live", {}, float(live)
    yield "night_sealed_timestamp_seconds", {}, manifest.sealed_at.timestamp()
    for stage in (*manifest.stages, *after):
        yield "stage_seconds", {"stage": stage.name}, float(stage.seconds)
        yield "stage_rows", {"stage": stage.name}, float(stage.rows)
        checks = stage.metrics.get("checks")
        if checks is None:
            continue
        for level in ("hold", "warn"):
            failed = sum(not check["passed"] and check["level"] == level for check in checks)
            yield "checks_failed", {"gate": stage.name, "level": level}, float(failed)
        observed = {check["column"]: check["observed"] for check in checks}  # two checks may ask about one figure
        for column, value in observed.items():
            if isinstance(value, int | float):
                yield "figure", {"gate": stage.name, "name": column}, float(value)


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
