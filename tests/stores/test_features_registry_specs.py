"""`feast apply` and `feast plan` by a user of the repository: nothing of ours changes, nothing of theirs is lost."""

import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stores.feast.checksums import find_damaged
from stores.feast.feature_views import MEMBERS
from stores.feast.repository import PublishConfig
from stores.publishing import publish
from tests.stores.conftest import Nights

UNCHANGED = ("No changes to registry", "No changes to infrastructure")
THEIRS = """
from datetime import timedelta
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Int64

country = Entity(name="country", join_keys=["country"], value_type=ValueType.STRING)
source = FileSource(name="theirs", path="theirs.parquet", timestamp_field="event_timestamp")
country_size = FeatureView(
    name="country_size", entities=[country], ttl=timedelta(days=1), source=source,
    schema=[Field(name="members", dtype=Int64)],
)
"""
Feast = Callable[[str, str], str]


@pytest.fixture
def feast(monkeypatch: pytest.MonkeyPatch) -> Feast:
    """Feast's command line in this process: feast(repository, verb) returns what it printed."""
    from click.testing import CliRunner
    from feast.cli.cli import cli

    own = list(sys.path)

    def run(repository: str, verb: str) -> str:
        monkeypatch.setattr(sys, "path", list(own))
        for path in Path(repository).glob("*.py"):  # a process of its own would not know those of another repository
            sys.modules.pop(path.stem, None)
        importlib.invalidate_caches()
        with chdir(repository):
            done = CliRunner().invoke(cli, ["-c", repository, verb])
        assert done.exit_code == 0, done.output
        return str(done.output)

    return run


@pytest.mark.parametrize("slots", [1, 2])
def test_feast_apply_finds_nothing_to_change(local_nights: Nights, look: Any, feast: Feast, slots: int) -> None:
    """After a first night, a second one, one in a new space, and a rollback, by one slot and by two."""
    config, made = PublishConfig(slots=slots, registry_ttl_s=1), local_nights
    first, second = (made.seal(dict.fromkeys(range(9), seed), {0: seed}) for seed in (1, 2))
    third = made.seal(dict.fromkeys(range(9), 3), {0: 3}, space_id="2")
    steps: list[Callable[[], Any]] = [
        lambda: publish.publish(made.workspace, first, config),
        lambda: publish.publish(made.workspace, second, config),
        lambda: publish.publish(made.workspace, third, config),
        lambda: publish.rollback(made.workspace, config),
    ]
    for step in steps:
        step()
        order, served = columns_of(look, made), look.rows(made, "member", list(range(9)))
        for verb in ("apply", "plan"):
            told = feast(made.repository, verb)
            assert all(line in told for line in UNCHANGED), told
        assert find_damaged(made.workspace.storage) == []
        assert columns_of(look, made) == order == list(MEMBERS.features)
        assert look.rows(made, "member", list(range(9))) == served


def columns_of(look: Any, made: Nights) -> list[str]:
    """Features of the members' view in the order in which Feast returns them, offline."""
    store = look.store(made)
    service = store.get_feature_service("embeddings_v1")
    view = service.feature_view_projections[0]
    asked = pd.DataFrame({"member_id": [0], "title_id": [0], "event_timestamp": [datetime.now(UTC)]})
    names = [f"{view.name}:{feature.name}" for feature in view.features]
    found = store.get_historical_features(asked, names).to_df()
    order = [name for name in found.columns if name in MEMBERS.features]
    assert order == [feature.name for feature in view.features]
    return order


def test_views_of_a_user_are_kept_by_the_next_night(local_nights: Nights, look: Any, feast: Feast) -> None:
    config, made = PublishConfig(registry_ttl_s=1), local_nights
    publish.publish(made.workspace, made.seal(dict.fromkeys(range(9), 1), {0: 1}), config)
    repository = Path(made.repository)
    pd.DataFrame({"country": ["GB"], "members": [9], "event_timestamp": [datetime.now(UTC)]}).to_parquet(
        repository / "theirs.parquet"
    )
    (repository / "theirs.py").write_text(THEIRS)
    assert "Created feature view country_size" in feast(made.repository, "apply")
    assert find_damaged(made.workspace.storage) == []
    release = made.seal(dict.fromkeys(range(9), 2), {0: 2}, space_id="2")  # its views are registered beside theirs
    publish.publish(made.workspace, release, config)
    store = look.store(made)
    assert {"country_size", "member_embedding", "member_embedding_s2"} <= {
        one.name for one in store.list_feature_views()
    }
    told = feast(made.repository, "plan")
    assert all(line in told for line in UNCHANGED), told
    with chdir(repository):  # Feast reads a relative path from the folder of the process
        store.materialize_incremental(datetime.now(UTC), ["country_size"])
    assert store.get_online_features(["country_size:members"], [{"country": "GB"}]).to_dict()["members"] == [9]
    assert "embedding" not in feast(made.repository, "plan"), "Feast counts what it materialised as a change of theirs"
    assert find_damaged(made.workspace.storage) == []
    publish.publish(made.workspace, made.seal(dict.fromkeys(range(9), 3), {0: 3}, space_id="2"), config)
    assert find_damaged(made.workspace.storage) == []


def test_a_registry_that_says_something_else_is_damage(local_nights: Nights, feast: Feast) -> None:
    """A user who changes our view, one who removes it, a file of another project, and bytes that are no registry."""
    config, made = PublishConfig(registry_ttl_s=1), local_nights
    publish.publish(made.workspace, made.seal(dict.fromkeys(range(9), 1), {0: 1}), config)
    storage, path = made.workspace.storage, "feast/registry.db"
    good, script = storage.read(path), Path(made.repository) / "definitions.py"
    text = script.read_text()
    script.write_text(text.replace("ttl=timedelta(0)", "ttl=timedelta(days=3)"))
    feast(made.repository, "apply")
    script.write_text(text)
    (fault,) = find_damaged(storage)
    assert "member_embedding" in fault
    assert "title_embedding" in fault
    assert "entities" not in fault
    for changed in (b"", b"\xff" * 40, good[:-20], good.replace(b"samespace", b"somebodys")):
        storage.write(path, changed)
        assert [line for line in find_damaged(storage) if line.startswith(path)], changed[:20]
    storage.write(path, good)
    assert find_damaged(storage) == []


def test_feast_apply_in_a_copy_leaves_the_original_alone(
    local_nights: Nights, look: Any, feast: Feast, tmp_path: Path
) -> None:
    """Feast notes where a SQLite table is and drops it there once it is to be elsewhere."""
    made, config = local_nights, PublishConfig(registry_ttl_s=1)
    release = made.seal(dict.fromkeys(range(9), 1), {0: 1})
    publish.publish(made.workspace, release, config)
    feast(made.repository, "apply")
    copied = tmp_path / "copy"
    shutil.copytree(made.workspace.uri, copied)
    feast(str(copied / "feast"), "apply")
    for repository in (made.repository, str(copied / "feast")):
        made.repository = repository
        served = look.online(made, "member", list(range(9)))
        assert look.same_bits(served, look.published(release, "members")), repository


@pytest.mark.slow
def test_the_command_feast_in_a_process_of_its_own(local_nights: Nights) -> None:
    made = local_nights
    publish.publish(made.workspace, made.seal(dict.fromkeys(range(9), 1), {0: 1}), PublishConfig(registry_ttl_s=1))
    for verb in ("plan", "apply"):
        command = [sys.executable, "-m", "feast.cli.cli", "-c", made.repository, verb]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert all(line in done.stdout for line in UNCHANGED), done.stdout
    assert find_damaged(made.workspace.storage) == []
