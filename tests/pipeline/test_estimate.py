"""What a night will take: in proportion to its work, from the nights that were timed; looking changes nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.config import Config
from pipeline.cpu_availability import CpuShare, measure_cpu
from pipeline.estimate import (
    FIXED_SECONDS,
    PARALLEL_STAGES,
    WARM_FIXED_SECONDS,
    PlanConfig,
    Workload,
    estimate,
    record_timing,
    stages_of,
    timing,
)
from pipeline.run_plan import NightRequest
from pipeline.workload import estimate_workload
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.releases.release import FileEntry, Manifest, Plan, Release, StageReport
from stores.releases.workspace import POINTER, Workspace

FULL = Workload(events=1_000_000, members=20_000, encoded=20_000, carried=0, titles=1000, shards=4)
WHEN = datetime(2025, 12, 20, tzinfo=UTC)


def night(tmp_path: Path, number: int = 1, **encode: object) -> Release:
    """A sealed release of the model "m" as of WHEN, live."""
    release = Release(str(tmp_path / "ws"), f"2026010{number}T000000Z-abcd")
    plan = Plan(
        release_id=release.release_id,
        plan_hash="",
        lake="",
        as_of=WHEN,
        created_at=WHEN,
        model_id="m",
        space_id="1",
        reference_release=None,
        previous_release=None,
        shards=5,
        config={},
    )
    stages = [
        StageReport(name="encode", metrics={"preprocessing": Config().encode.preprocessing, **encode}),
        StageReport(name="align", metrics={"mode": Config().align.mode}),
        StageReport(name="histories", metrics={"members": 10, "tokens": 70}),
    ]
    manifest = Manifest(
        status="ready",
        release_id=release.release_id,
        space_id="1",
        model_id="m",
        sealed_at=WHEN,
        reasons=[],
        plan=plan,
        files=[FileEntry(path="members/part-0.parquet", rows=20_000, bytes=2**23, sha256="")],
        stages=stages,
    )
    release.storage.write("plan.json", plan.model_dump_json().encode())
    release.storage.write("manifest.json", manifest.to_bytes())
    pointer = {"release_id": release.release_id, "space_id": "1", "promoted_at": WHEN.isoformat()}
    Workspace.open(release.workspace_uri).storage.write(POINTER, json.dumps(pointer).encode())
    return Release(release.workspace_uri, release.release_id)


TOOK = 4.3 + 24.0 + 3.0 + 8.0 + FIXED_SECONDS["gate_input"] + FIXED_SECONDS["rest"]


def reports(factor: float = 1.0) -> list[StageReport]:
    seconds = {
        "histories": 4.3,
        "encode": 24.0,
        "align": 3.0,
        "publish": 8.0,
        "gate_input": FIXED_SECONDS["gate_input"],
    }
    return [StageReport(name=name, seconds=factor * value) for name, value in seconds.items()]


def test_the_same_work_is_expected_to_take_the_same_time(tmp_path: Path) -> None:
    release = night(tmp_path)
    record_timing(release, FULL, estimate(FULL, [], PlanConfig(), 2), stages_of(reports(), TOOK))
    found = estimate(FULL, [release], PlanConfig(), 2)
    assert found.nights == 1
    assert found.stages["encode"] == pytest.approx(24.0)
    assert found.stages["rest"] == pytest.approx(FIXED_SECONDS["rest"])
    timed = timing(release)
    assert timed is not None
    assert timed["expected"]["nights"] == 0


def test_what_is_beyond_the_fixed_part_grows_with_the_work(tmp_path: Path) -> None:
    release = night(tmp_path)
    record_timing(release, FULL, estimate(FULL, [], PlanConfig(), 2), stages_of(reports(), TOOK))
    twice = FULL.model_copy(update={"members": 40_000, "encoded": 40_000})
    found = estimate(twice, [release], PlanConfig(), 2)
    assert found.stages["encode"] == pytest.approx(FIXED_SECONDS["encode"] + 2 * (24.0 - FIXED_SECONDS["encode"]))
    assert found.stages["gate_input"] == pytest.approx(FIXED_SECONDS["gate_input"])
    few = FULL.model_copy(update={"encoded": 1000, "carried": 19_000})
    assert FIXED_SECONDS["encode"] < estimate(few, [release], PlanConfig(), 2).stages["encode"] < 7.0
    assert found.disk_mb == 16


def test_on_a_slower_machine_the_fixed_part_is_longer(tmp_path: Path) -> None:
    release = night(tmp_path)
    record_timing(release, FULL, estimate(FULL, [], PlanConfig(), 2), stages_of(reports(3.0), 3.0 * TOOK))
    few = FULL.model_copy(update={"encoded": 0, "carried": 0})
    assert estimate(few, [release], PlanConfig(), 2).stages["encode"] == pytest.approx(3 * FIXED_SECONDS["encode"])


def test_a_second_night_is_also_compared_with_the_first(tmp_path: Path) -> None:
    release, second = night(tmp_path), FULL.model_copy(update={"again": True})
    record_timing(release, FULL, estimate(FULL, [], PlanConfig(), 2), stages_of(reports(), TOOK))
    first, later = (estimate(work, [release], PlanConfig(), 2).stages for work in (FULL, second))
    assert {
        name: pytest.approx(later[name] - first[name]) for name in WARM_FIXED_SECONDS if later[name] != first[name]
    } == WARM_FIXED_SECONDS
    assert estimate(second, [], PlanConfig(), 2).seconds > estimate(FULL, [], PlanConfig(), 2).seconds


def test_one_slow_night_of_three_does_not_count(tmp_path: Path) -> None:
    nights = [night(tmp_path, number) for number in (1, 2, 3)]
    for release, factor in zip(nights, (1.0, 9.0, 1.0), strict=True):
        record_timing(release, FULL, estimate(FULL, [], PlanConfig(), 2), stages_of(reports(factor), factor * TOOK))
    assert estimate(FULL, nights, PlanConfig(), 2).stages["encode"] == pytest.approx(24.0)


def test_what_other_programs_took_then_and_take_now_is_reckoned_out_and_in(tmp_path: Path) -> None:
    release, quiet, busy = night(tmp_path), stages_of(reports(), TOOK), CpuShare(one=0.8, every=0.4)
    slowed = {name: took / (busy.every if name in PARALLEL_STAGES else busy.one) for name, took in quiet.items()}
    record_timing(release, FULL, estimate(FULL, [], PlanConfig(), 2), slowed, busy)
    for name, took in quiet.items():
        assert estimate(FULL, [release], PlanConfig(), 2).stages[name] == pytest.approx(took, abs=0.01)
        assert estimate(FULL, [release], PlanConfig(), 2, busy).stages[name] == pytest.approx(slowed[name], abs=0.01)


def test_a_night_on_as_many_processors_counts_more_than_others(tmp_path: Path) -> None:
    ours, theirs = CpuShare(processors=2), CpuShare(processors=64)
    for number, share, factor in ((1, ours, 1.0), (2, theirs, 0.1), (3, theirs, 0.1)):
        took = {name: factor * seconds for name, seconds in stages_of(reports(), TOOK).items()}
        record_timing(night(tmp_path, number), FULL, estimate(FULL, [], PlanConfig(), 2), took, share)
    nights = [night(tmp_path, number) for number in (3, 2, 1)]
    assert estimate(FULL, nights, PlanConfig(), 2, ours).stages["encode"] == pytest.approx(24.0)
    assert estimate(FULL, nights, PlanConfig(), 2, theirs).stages["encode"] == pytest.approx(2.4)
    assert estimate(FULL, nights[:2], PlanConfig(), 2, ours).nights == 2


def test_a_share_of_the_machine_is_a_share() -> None:
    found = measure_cpu()
    assert 0 < found.every <= found.one <= 1


def test_the_cost_is_the_price_of_the_nodes_for_that_long() -> None:
    found = estimate(FULL, [], PlanConfig(price_per_node_hour=3600.0, nodes=2), 2)
    assert found.cost == pytest.approx(2 * sum(found.stages.values()), rel=1e-3)
    assert estimate(FULL, [], PlanConfig(), 8).memory_mb > found.memory_mb


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("service") / "lake")
    simulate(place, SimulationConfig(members=60, titles=40, days=20))
    return place


def test_tonight_only_members_with_new_events_are_encoded(tmp_path: Path, lake: str) -> None:
    release, config = night(tmp_path), Config(lake=lake)
    workspace, until = Workspace.open(release.workspace_uri), datetime(2025, 12, 22, tzinfo=UTC)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    work = estimate_workload(config, NightRequest(until), "m", workspace)
    assert 0 < work.encoded < work.members
    assert work.encoded + work.carried == work.members
    assert (work.shards, work.titles, work.tokens_per_member) == (5, 40, 7.0)
    for request, model in ((NightRequest(until, full=True), "m"), (NightRequest(until), "another")):
        assert estimate_workload(config, request, model, workspace).carried == 0
    other = config.model_copy(update={"encode": config.encode.model_copy(update={"precision": "fp32"})})
    assert estimate_workload(other, NightRequest(until), "m", workspace).carried == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_the_first_night_encodes_everybody(tmp_path: Path, lake: str) -> None:
    work = estimate_workload(Config(lake=lake), NightRequest(), None, Workspace.open(str(tmp_path / "none")))
    assert (work.encoded, work.carried) == (work.members, 0)
    assert 0 < work.members <= 60


def test_the_command_tells_work_time_memory_disk_and_cost(
    tmp_path: Path, lake: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "--lake", lake, "--workspace", str(tmp_path / "none"), "--set", "plan.price_per_node_hour=2"]
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["work"]["encoded"] == facts["work"]["members"] > 0
    assert min(facts["estimate"][name] for name in ("seconds", "memory_mb", "disk_mb", "cost")) >= 0
    assert facts["estimate"]["seconds"] == pytest.approx(sum(facts["estimate"]["stages"].values()), abs=0.1)
    assert main(words) == 0
    assert "members to encode" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()
    assert main(["plan", "--workspace", str(tmp_path / "none")]) == 2
