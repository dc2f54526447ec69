"""A verb that was interrupted and is given again is done once, and says so; two that were not interrupted are two."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.cli import main
from stores.errors import GateError, NotFoundError, StoreError
from stores.feast.online_store import OnlineStoreWriter
from stores.publishing import command_intent, publish, publish_transaction
from stores.publishing.space_publisher import SpacePublisher
from stores.releases.release import Release
from stores.terminal import defer_until_output
from tests.stores.conftest import Nights

PLACES: dict[str, tuple[Any, str]] = {
    "before the journal": (publish, "write_plan"),
    "history": (SpacePublisher, "write_history"),
    "online": (SpacePublisher, "write_online"),
    "pointer": (publish_transaction, "move_pointer"),
    "event": (Release, "add_event"),
    "journal": (publish_transaction, "close_plan"),
    "answer": (command_intent, "close_intent"),
}


class KilledError(BaseException):
    """The process ends here."""


@pytest.fixture
def four(local_nights: Nights, config: publish.PublishConfig) -> list[str]:
    """Ids of four releases that went live one after the other."""
    for seed in (1, 2, 3, 4):
        publish.publish(local_nights.workspace, local_nights.seal({0: seed, seed: 1}, {0: seed}), config)
    return [release.release_id for release in local_nights.made]


@pytest.fixture
def another_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """another_process(): what this process knows of its own intents is gone."""
    return lambda: monkeypatch.setattr(command_intent, "_finished", set())


def kill(verb: Callable[[], Any], place: str) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*PLACES[place], killed)
        with pytest.raises(KilledError):
            verb()


def live(nights: Nights) -> str:
    return str((nights.workspace.pointer() or {})["release_id"])


@pytest.mark.parametrize("place", PLACES)
def test_a_rollback_that_was_killed_and_given_again_goes_back_once(
    local_nights: Nights,
    config: publish.PublishConfig,
    four: list[str],
    place: str,
    another_process: Callable[[], None],
) -> None:
    workspace = local_nights.workspace
    kill(lambda: publish.rollback(workspace, config), place)
    another_process()
    report = publish.rollback(workspace, config)
    assert live(local_nights) == four[2]
    assert bool(report.metrics.get(publish.COMPLETED)) == (place != "before the journal")
    assert [len(local_nights.made[number].events()) for number in (1, 2, 3)] == [1, 2, 1]
    another_process()
    publish.rollback(workspace, config)  # nothing was interrupted: this is another one
    assert live(local_nights) == four[1]


@pytest.mark.parametrize("place", PLACES)
def test_a_promotion_that_was_killed_and_given_again_is_made_once(
    local_nights: Nights,
    config: publish.PublishConfig,
    four: list[str],
    place: str,
    another_process: Callable[[], None],
) -> None:
    workspace = local_nights.workspace
    kill(lambda: publish.promote(workspace, four[0], config), place)
    another_process()
    report = publish.promote(workspace, four[0], config)
    assert live(local_nights) == four[0]
    assert bool(report.metrics.get(publish.COMPLETED)) == (place != "before the journal")
    assert [event["event"] for event in local_nights.made[0].events()] == ["published", "promoted"]
    another_process()
    publish.promote(workspace, four[0], config)
    assert [event["event"] for event in local_nights.made[0].events()][2:] == ["rebuilt"]


def test_a_rollback_that_a_store_stopped_goes_back_once_in_the_same_process_too(
    local_nights: Nights, config: publish.PublishConfig, four: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(OnlineStoreWriter, "write", refuse)
        with pytest.raises(StoreError):
            publish.rollback(local_nights.workspace, config)
    publish.rollback(local_nights.workspace, config)
    assert live(local_nights) == four[2]


def test_another_verb_completes_what_was_interrupted_and_is_done_as_well(
    local_nights: Nights, config: publish.PublishConfig, four: list[str], another_process: Callable[[], None]
) -> None:
    workspace = local_nights.workspace
    kill(lambda: publish.rollback(workspace, config), "online")
    another_process()
    publish.promote(workspace, four[0], config)
    assert live(local_nights) == four[0]
    assert [event["event"] for event in local_nights.made[2].events()] == ["published", "promoted"]
    another_process()
    kill(lambda: publish.promote(workspace, four[3], config), "online")
    another_process()
    publish.rollback(workspace, config)  # back from what the promotion led to, once it was complete
    assert live(local_nights) == four[0]


def test_an_answer_that_was_never_printed_leaves_the_intent_open(
    local_nights: Nights, config: publish.PublishConfig, four: list[str], another_process: Callable[[], None]
) -> None:
    workspace = local_nights.workspace

    def unprinted() -> None:
        with defer_until_output():
            publish.rollback(workspace, config)
            raise KilledError

    with pytest.raises(KilledError):
        unprinted()
    another_process()
    assert publish.rollback(workspace, config).metrics[publish.COMPLETED]
    assert live(local_nights) == four[2]


def test_the_command_says_that_it_was_completed(
    local_nights: Nights, four: list[str], another_process: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--workspace", local_nights.workspace.uri, "--set", "publish.registry_ttl_s=1"]
    kill(lambda: main(["rollback", *words]), "event")
    another_process()
    capsys.readouterr()
    assert main(["rollback", *words]) == 0
    told = capsys.readouterr().out
    assert f"the interrupted rollback to {four[2]} was completed" in told
    assert "once more" in told
    another_process()
    assert main(["rollback", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"current": four[1], "completed": False}
    kill(lambda: main(["promote", four[3], *words]), "journal")
    another_process()
    assert main(["promote", four[3], *words]) == 0
    assert f"the interrupted promote to {four[3]} was completed" in capsys.readouterr().out


def test_the_same_arguments_are_asked_for(local_nights: Nights, four: list[str]) -> None:
    begun = command_intent.record_intent(local_nights.workspace, "promote", {"release_id": four[0]})
    assert command_intent.interrupted_intent(local_nights.workspace, "promote", {"release_id": four[1]}) is None
    assert command_intent.interrupted_intent(local_nights.workspace, "rollback", {}) is None
    again = command_intent.interrupted_intent(local_nights.workspace, "promote", {"release_id": four[0]})
    assert again is not None
    assert (again.name, again.repeated) == (begun.name, True)


def test_refused_commands_leave_the_intent_as_it_was(
    local_nights: Nights, config: publish.PublishConfig, four: list[str], another_process: Callable[[], None]
) -> None:
    """With none noted before, and beside that of a rollback that was killed."""
    workspace = local_nights.workspace
    held = local_nights.seal({0: 9}, {0: 9}, held=True)
    refused = [
        lambda: publish.promote(workspace, held.release_id, config),
        lambda: publish.promote(workspace, "20260721T020000Z-3f9a", config),
    ]
    for killed in (False, True):
        if killed:
            kill(lambda: publish.rollback(workspace, config), "pointer")
            another_process()
        before = noted(local_nights)
        for verb in refused:
            with pytest.raises((GateError, NotFoundError)):
                verb()
            assert noted(local_nights) == before
    publish.rollback(workspace, config)
    assert live(local_nights) == four[2]


def noted(nights: Nights) -> bytes:
    storage = nights.workspace.storage
    return storage.read(command_intent.INTENT_FILE) if storage.exists(command_intent.INTENT_FILE) else b""
