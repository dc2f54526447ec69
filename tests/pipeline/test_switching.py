"""Decisions by hand about whose online store it is: by the command line, and before a night begins."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Config
from pipeline.console import ConsoleReporter
from pipeline.promotion import PromoteOptions, switch_to
from stores.errors import ConfigError, GateError
from stores.feast.repository import PublishConfig
from stores.publishing import publish
from stores.releases.workspace import Workspace
from tests.stores.conftest import Look, Nights

EVERYONE = list(range(20))
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def block(tmp_path: Path) -> dict[str, str]:
    """An online store that holds the rows of another workspace."""
    found = {"type": "sqlite", "path": str(tmp_path / "shared.db")}
    first = nights(tmp_path / "first")
    config = PublishConfig(online_store=found, registry_ttl_s=1)
    publish.publish(first.workspace, first.seal(dict.fromkeys(range(20), 1), {0: 1}), config)
    return found


def nights(place: Path) -> Nights:
    return Nights(Workspace.open(str(place)), str(place / "feast"))


def test_promote_takes_a_store_over_only_for_a_release_that_may_go_live(block: dict[str, str], tmp_path: Path) -> None:
    second, look = nights(tmp_path / "second"), Look()
    config = Config(workspace=second.workspace.uri, publish=PublishConfig(online_store=block, registry_ttl_s=1))
    held = second.seal(dict.fromkeys(range(5), 2), {0: 2}, held=True)
    ready = second.seal(dict.fromkeys(range(5), 3), {0: 3})
    tell, decided = ConsoleReporter(True), PromoteOptions(take_over=True)
    with pytest.raises(ConfigError, match="belongs to workspace"):
        switch_to(config, ready.release_id, PromoteOptions(), tell)
    with pytest.raises(GateError):
        switch_to(config, held.release_id, decided, tell)
    first = nights(tmp_path / "first")
    assert len(look.online(first, "member", EVERYONE)) == 20
    switch_to(config, ready.release_id, decided, tell)
    assert look.same_bits(look.online(second, "member", EVERYONE), look.published(ready, "members"))


def test_a_night_is_refused_before_it_begins(block: dict[str, str], lake: Path, tmp_path: Path, here: Run) -> None:
    """No model is trained, nothing is encoded, no release is begun; `doctor` says the same."""
    words = ("--lake", str(lake), "--set", f"publish.online_store={json.dumps(block)}")
    answer = here("nightly", *words, cwd=tmp_path, expect=2)
    assert "belongs to workspace" in answer["error"]["what"]
    assert "--take-over" in answer["error"]["fix"]
    assert not (tmp_path / "ws" / "releases").exists()
    assert not (tmp_path / "ws" / "models").exists()
    findings = here("doctor", *words, cwd=tmp_path, expect=1)["findings"]
    said = next(one for one in findings if one["what"] == "online store")
    assert (said["state"], "belongs to workspace" in said["says"]) == ("bad", True)
