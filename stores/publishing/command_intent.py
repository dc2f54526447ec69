"""The intent of a command that must not be done twice: noted before it begins, closed once its answer was printed.

A rollback that was killed may have moved the pointer, or the next command completes it; given again it would go back
once more, and a night would make a second release. `journal/intent.json` says which command began on top of which
state. The same command that finds the intent of an earlier run unanswered is that run's repetition: if the pointer
moved since, it is done. Every command that notes an intent replaces the one before, whatever became of it.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from pydantic import AwareDatetime

from stores.errors import CorruptError, GateError, SamespaceError, UsageError
from stores.files.checksummed_json import dump_checksummed, read_facts
from stores.files.compare_and_swap import replace_if
from stores.files.filesystem import Storage
from stores.releases.workspace import Workspace, promoted_at
from stores.settings import Settings
from stores.terminal import after_output

INTENT_FILE = "journal/intent.json"
_finished: set[str] = set()
"""Names of the intents that this process has carried out, whether their answer is printed yet or not."""


class CommandIntent(Settings):
    """A verb with its arguments, the moment since which the release before it was live, and where it leads.

    `repeated` says that an earlier run of the same command was interrupted before its answer was printed.
    """

    name: str
    verb: str
    arguments: dict[str, Any]
    before: AwareDatetime | None
    target: str | None = None
    answered: bool = False
    repeated: bool = False


def interrupted_intent(workspace: Workspace, verb: str, arguments: dict[str, Any]) -> CommandIntent | None:
    """The intent of an earlier run of the same command, if that was interrupted before its answer was printed."""
    found = _read(workspace.storage)
    same = found is not None and (found.verb, found.arguments) == (verb, arguments)
    if found is None or not same or found.answered or found.name in _finished:
        return None
    return found.model_copy(update={"repeated": True})


def record_intent(
    workspace: Workspace, verb: str, arguments: dict[str, Any], target: str | None = None
) -> CommandIntent:
    """Note the intent of a command that begins; that of an interrupted run of the same command stays as it is.

    Callers hold the lease and have completed what was interrupted.
    """
    if earlier := interrupted_intent(workspace, verb, arguments):
        return earlier if target in (None, earlier.target) else _write(workspace, earlier, target)
    fresh = CommandIntent(name=secrets.token_hex(8), verb=verb, arguments=arguments, before=promoted_at(workspace))
    return _write(workspace, fresh, target)


@contextmanager
def intent_recorded(
    workspace: Workspace, verb: str, arguments: dict[str, Any], target: str | None = None
) -> Iterator[CommandIntent]:
    """Note the intent of a command as long as it runs, and close it; a command that is refused leaves none.

    A refusal is a UsageError, which ConfigError and NotFoundError are, or a GateError: nothing has moved by then.
    """
    storage = workspace.storage
    before = storage.read(INTENT_FILE) if storage.exists(INTENT_FILE) else None
    begun = record_intent(workspace, verb, arguments, target)
    try:
        yield begun
    except (UsageError, GateError):
        if before is None:
            storage.delete(INTENT_FILE)
        else:
            storage.write(INTENT_FILE, before)
        raise
    close_intent(workspace, begun)


def pointer_has_moved(workspace: Workspace, intent: CommandIntent) -> bool:
    """Whether the pointer moved since the command began."""
    return promoted_at(workspace) != intent.before


def close_intent(workspace: Workspace, intent: CommandIntent) -> None:
    """Close an intent that was carried out: at once, or where a command prints its answer after that."""
    _finished.add(intent.name)
    after_output(partial(_close, workspace.storage, intent.name))


def _close(storage: Storage, name: str) -> None:
    """Mark an intent as answered, unless another replaced it; one that cannot be marked stays open."""
    with suppress(SamespaceError):
        found = _read(storage)
        if found is not None and found.name == name:
            replace_if(
                storage, INTENT_FILE, _bytes(found.model_copy(update={"answered": True})), storage.read(INTENT_FILE)
            )


def _write(workspace: Workspace, intent: CommandIntent, target: str | None) -> CommandIntent:
    kept = intent.model_copy(update={"target": target})
    workspace.storage.write(INTENT_FILE, _bytes(kept))
    return kept


def _bytes(intent: CommandIntent) -> bytes:
    return dump_checksummed(intent.model_dump(mode="json", exclude={"repeated"}))


def _read(storage: Storage) -> CommandIntent | None:
    """The last intent; None where there is none, or where it is damaged: then no command counts as interrupted."""
    try:
        return read_facts(storage, INTENT_FILE, CommandIntent) if storage.exists(INTENT_FILE) else None
    except CorruptError:
        return None
