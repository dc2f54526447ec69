from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.prometheus_textfile import exposition, write_metrics_file
from stores.errors import ConfigError
from stores.releases.release import Manifest, Plan, StageReport

parser = pytest.importorskip("prometheus_client.parser", reason="Prometheus' own parser is the oracle")
AT = datetime(2026, 7, 21, 2, tzinfo=UTC)
NASTY = 'm"1\\\n'


def check(column: str, observed: object, passed: bool, level: str = "hold") -> dict[str, object]:
    return {"column": column, "observed": observed, "passed": passed, "level": level}


@pytest.fixture
def manifest() -> Manifest:
    checks = [
        check("coverage", 0.9, passed=False),
        check("coverage", 0.9, passed=True, level="warn"),
        check("outcome", "same_space", passed=True),
        check("score_psi", None, passed=False, level="warn"),
    ]
    stages = [
        StageReport(name="encode", seconds=2.5, rows=10),
        StageReport(name="gate_vectors", seconds=1, rows=10, metrics={"checks": checks}),
    ]
    facts = {"release_id": "r", "model_id": NASTY, "space_id": "1"}
    plan = Plan(**facts, plan_hash="0", lake="l", as_of=AT, created_at=AT, shards=1, config={},
                reference_release=None, previous_release=None)  # fmt: skip
    return Manifest(**facts, status="held", sealed_at=AT, reasons=["x"], plan=plan, files=[], stages=stages)


def test_prometheus_reads_what_was_written(manifest: Manifest) -> None:
    families = list(parser.text_string_to_metric_families(exposition(manifest, live=False)))
    assert len({family.name for family in families}) == len(families)
    assert all(family.type == "gauge" and family.documentation for family in families)
    found = {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}
    assert found["samespace_night_live",] == 0
    assert found["samespace_night_sealed_timestamp_seconds",] == AT.timestamp()
    assert found["samespace_stage_seconds", "encode"] == 2.5
    assert found["samespace_checks_failed", "gate_vectors", "hold"] == 1
    assert found["samespace_checks_failed", "gate_vectors", "warn"] == 1
    assert found["samespace_figure", "coverage", "gate_vectors"] == 0.9
    assert not any("outcome" in key for key in found)
    assert NASTY in next(key for key in found if key[0] == "samespace_night_info")


def test_the_file_is_replaced_whole(manifest: Manifest, tmp_path: Path) -> None:
    place = tmp_path / "samespace.prom"
    place.write_text("old")
    write_metrics_file(str(place), manifest, live=True)
    assert place.read_text() == exposition(manifest, live=True)
    assert list(tmp_path.iterdir()) == [place]


def test_a_folder_that_is_not_there_is_named(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        write_metrics_file(str(tmp_path / "no" / "x.prom"), manifest, live=True)
