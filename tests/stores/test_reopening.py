import pytest

from stores.errors import UsageError
from stores.releases.release import Release, StageReport
from stores.releases.reopened_release import reopen

REPORTS = [StageReport(name="align", metrics={"outcome": "refused", "space_id": "2"}), StageReport(name="gate_vectors")]


@pytest.fixture
def held(nights) -> Release:
    """A release that a gate held after its vectors were written."""
    nights.seal(dict.fromkeys(range(9), 1), {0: 1})
    release = nights.workspace.stage(nights.made[0].plan.model_copy(update={"release_id": "20260801T020000Z-0009"}), 0)
    release.token = None
    release.write_table("members/part-00000.parquet", nights.member_table({0: 1}, release.release_id))
    for report in REPORTS:
        release.run_stage(report.name, lambda report=report: report)
    release.seal(["refused"], [release.stage_report(report.name) for report in REPORTS], {})
    return Release(nights.workspace.uri, release.release_id)


def test_stages_before_are_kept_and_later_ones_run_again(held):
    opened = reopen(held, "gate_vectors", align={"outcome": "new_space"})
    assert opened.stage_report("align").metrics == {"outcome": "new_space", "space_id": "2"}
    assert opened.stage_report("gate_vectors") is None
    assert opened.completed_file("members/part-00000.parquet") is not None
    assert opened.space_id == "2"


def test_readers_see_the_held_release_until_it_is_sealed_anew(nights, held):
    opened = reopen(held, "gate_vectors")
    assert Release(nights.workspace.uri, held.release_id).manifest.status == "held"
    assert nights.workspace.staged() == []
    opened.write_bytes("index/more.json", b"{}")
    opened.seal([], [opened.stage_report("align")], {"ray": "2"})
    sealed = Release(nights.workspace.uri, held.release_id)
    assert (sealed.manifest.status, sealed.space_id, sealed.verify()) == ("ready", "2", [])
    assert [entry.path for entry in sealed.manifest.files] == ["index/more.json", "members/part-00000.parquet"]
    assert sealed.storage.files("work") == []


def test_only_a_held_release_that_got_so_far_goes_on(nights, held):
    with pytest.raises(UsageError, match="cannot go on from index"):
        reopen(held, "index")
    with pytest.raises(UsageError, match="cannot go on"):
        reopen(nights.made[0], "gate_vectors")
