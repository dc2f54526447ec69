"""What tonight is: an interrupted night goes on, whatever it had reached; anything else begins anew."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.run_plan import NightRequest, RunInputs, begin_night, require_same_ids, resume_or_stage
from stores.errors import ContractError
from stores.feast.repository import FORMAT, VIEWS, FeatureRepository
from stores.files.checksummed_json import dump_checksummed
from stores.lake.contract import Lake
from stores.lake.simulation.simulate import SimulationConfig, simulate
from stores.publishing import command_intent
from stores.releases.lease import lease
from stores.releases.release import Release
from stores.releases.workspace import POINTER, Workspace


@pytest.fixture
def wish(tmp_path: Path) -> RunInputs:
    lake = str(tmp_path / "lake")
    simulate(lake, SimulationConfig(members=20, titles=20, days=3))
    return RunInputs(Config(lake=lake), NightRequest(), "model", Lake.open(lake).fingerprint())


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(str(tmp_path / "ws"))


def start(workspace: Workspace, wish: RunInputs, recovered: bool = False) -> tuple[Release, bool]:
    with lease(workspace.storage, "test") as token:
        return resume_or_stage(workspace, wish, token, recovered)


def make_live(workspace: Workspace, release: Release) -> None:
    pointer = {"release_id": release.release_id, "space_id": release.space_id, "promoted_at": "2026-01-01T00:00:00Z"}
    workspace.storage.write(POINTER, json.dumps(pointer).encode())


def sealed(workspace: Workspace, release: Release, reasons: list[str] | None = None) -> Release:
    Release(workspace.uri, release.release_id).seal(reasons or [], [], {})
    return workspace.release(release.release_id)


def test_the_first_night_opens_space_one(workspace: Workspace, wish: RunInputs) -> None:
    release, resumed = start(workspace, wish)
    assert not resumed
    assert (release.plan.space_id, release.plan.reference_release, release.plan.shards) == ("1", None, 4)


def test_a_crashed_night_goes_on_with_its_own_moment(workspace: Workspace, wish: RunInputs) -> None:
    first, _ = start(workspace, wish)
    again, resumed = start(workspace, wish)
    assert resumed
    assert again.plan == first.plan


def test_a_night_that_was_killed_while_it_was_sealed_leaves_no_work(workspace: Workspace, wish: RunInputs) -> None:
    first, _ = start(workspace, wish)
    sealed(workspace, first)
    for path in ("work/entries/x.json", "members/.tmp-1-part"):
        first.storage.write(path, b"")
    again, resumed = start(workspace, wish)
    assert (again.release_id, resumed) == (first.release_id, True)
    assert [info.path for info in again.storage.infos()] == ["manifest.json", "plan.json"]


@pytest.mark.parametrize("change", ["model", "lake", "moment", "config"])
def test_another_wish_begins_anew_and_the_old_rest_is_removed(
    workspace: Workspace, wish: RunInputs, change: str
) -> None:
    first, _ = start(workspace, wish)
    config = wish.config.model_copy(update={"encode": wish.config.encode.model_copy(update={"batch_size": 7})})
    other = {
        "model": RunInputs(wish.config, wish.request, "another", wish.fingerprint),
        "lake": RunInputs(wish.config, wish.request, "model", "changed"),
        "moment": RunInputs(wish.config, NightRequest(datetime(2026, 1, 1, tzinfo=UTC)), "model", wish.fingerprint),
        "config": RunInputs(config, wish.request, "model", wish.fingerprint),
    }[change]
    second, resumed = start(workspace, other)
    assert not resumed
    assert [release.release_id for release in workspace.staged()] == [second.release_id]
    assert second.release_id != first.release_id


def test_a_night_that_died_after_sealing_goes_live_instead_of_running_again(
    workspace: Workspace, wish: RunInputs
) -> None:
    first, _ = start(workspace, wish)
    sealed(workspace, first)
    again, resumed = start(workspace, wish)
    assert resumed
    assert again.release_id == first.release_id


def test_a_held_release_is_not_taken_up_again(workspace: Workspace, wish: RunInputs) -> None:
    first, _ = start(workspace, wish)
    sealed(workspace, first, ["a gate said no"])
    assert start(workspace, wish)[0].release_id != first.release_id


def test_a_night_whose_publication_was_just_completed_is_done(workspace: Workspace, wish: RunInputs) -> None:
    first, _ = start(workspace, wish)
    release = sealed(workspace, first)
    release.add_event("published")
    make_live(workspace, release)
    assert start(workspace, wish, recovered=True)[0].release_id == first.release_id
    assert start(workspace, wish, recovered=False)[0].release_id != first.release_id


def test_the_reference_is_the_release_that_opened_the_space(workspace: Workspace, wish: RunInputs) -> None:
    opened = sealed(workspace, start(workspace, wish)[0])
    make_live(workspace, opened)
    second = start(workspace, wish)[0]
    assert second.plan.reference_release == opened.release_id
    make_live(workspace, sealed(workspace, second))
    third = start(workspace, RunInputs(wish.config, wish.request, "newer", wish.fingerprint))[0]
    assert third.plan.reference_release == opened.release_id
    assert third.plan.previous_release == second.release_id


def night(workspace: Workspace, wish: RunInputs, ends: bool) -> Release:
    """The release of a night as a command makes it; without an end the command is killed."""
    with lease(workspace.storage, "test") as token:
        release, _, begun = begin_night(workspace, wish, token, None)
    if ends:
        command_intent.close_intent(workspace, begun)
    return release


@pytest.mark.parametrize("ending", ["held", "live", "sealed", "staged"])
def test_a_night_that_was_killed_before_its_answer_makes_no_second_release(
    workspace: Workspace, wish: RunInputs, ending: str
) -> None:
    request = NightRequest(datetime(2026, 1, 1, tzinfo=UTC), promote=ending != "sealed")
    wish = RunInputs(wish.config, request, wish.model_id, wish.fingerprint)
    first = night(workspace, wish, ends=False)
    if ending != "staged":
        release = sealed(workspace, first, ["a gate said no"] if ending == "held" else None)
        if ending == "live":
            release.add_event("published")
            make_live(workspace, release)
    again = night(workspace, wish, ends=True)
    assert again.release_id == first.release_id
    third = night(workspace, wish, ends=True)
    assert (third.release_id == first.release_id) == (ending == "staged")  # after its end it is another night


def test_another_lake_is_another_night_also_where_the_last_one_was_killed(
    workspace: Workspace, wish: RunInputs
) -> None:
    first = night(workspace, wish, ends=False)
    sealed(workspace, first, ["a gate said no"])
    other = night(workspace, RunInputs(wish.config, wish.request, wish.model_id, "changed"), ends=False)
    assert other.release_id != first.release_id


@pytest.mark.parametrize("name", ["plan.json", "manifest.json"])
def test_a_damaged_release_holds_no_night_up(workspace: Workspace, wish: RunInputs, name: str) -> None:
    first, _ = start(workspace, wish)
    if name == "manifest.json":
        sealed(workspace, first)
    first.storage.write(name, b"[]")
    second, resumed = start(workspace, wish)
    assert not resumed
    assert second.release_id > first.release_id or name == "plan.json"  # one that was never sealed is gone, its id too
    assert second.plan.plan_hash == wish.hash(None)
    assert [release.release_id for release in workspace.staged()] == [second.release_id]


@pytest.mark.parametrize("entity", ["member", "title"])
@pytest.mark.parametrize("published", ["int64", "string"])
def test_ids_of_another_type_than_those_published_are_refused_by_name(
    workspace: Workspace, wish: RunInputs, entity: str, published: str
) -> None:
    lake, repository = Lake.open(wish.config.lake), FeatureRepository(workspace.storage, wish.config.publish)
    require_same_ids(lake, workspace, wish.config.publish)  # nothing is published yet
    entities = {name: {"join_key": f"{name}_id", "id": "int64"} for name in ("member", "title")}
    entities[entity]["id"] = published
    repository.storage.write(
        VIEWS, dump_checksummed({"format": FORMAT, "entities": entities, "views": {}, "services": {}})
    )
    if published == "int64":
        require_same_ids(lake, workspace, wish.config.publish)
        return
    with pytest.raises(ContractError, match=f"{entity}_id is int64.*published string") as refused:
        require_same_ids(lake, workspace, wish.config.publish)
    assert refused.value.exit_code == 3
    assert "new workspace" in refused.value.fix
