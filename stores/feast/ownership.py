"""Own the rows of an online store: one workspace for each Feast view, by marks in the store itself."""

import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from stores.errors import ConfigError, CorruptError, SamespaceError, StoreError
from stores.feast.feature_views import BLUE_SLOT, FIRST_SPACE, GREEN_SLOT, PROJECT, VIEWS, FeatureViewSpec
from stores.feast.owner_marks import Marks, MarkStore, mark_store
from stores.feast.redis_writer import redis_nodes, with_deadlines
from stores.feast.repository import FeatureRepository, PublishConfig, online_store_of
from stores.feast.store_errors import store_errors
from stores.files.checksummed_json import dump_checksummed, read_checksummed
from stores.files.filesystem import Storage, absolute
from stores.publishing.journal import forget_rows, published_slots
from stores.settings import Settings

IDENTITY_FILE = "workspace.json"


class WorkspaceIdentity(Settings):
    """What `workspace.json` says: who the workspace is, and what it knows of each online store that it has written.

    `place` is where it was when it last wrote into a store that others can reach: a copy finds its original there.
    """

    workspace_id: str = Field(default_factory=lambda: secrets.token_hex(8))
    place: str = ""
    generations: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    pending: str = ""
    clearing: bool = False
    """A take-over was begun, and rows of the other workspace may still be there."""


def read_identity(storage: Storage) -> WorkspaceIdentity:
    """Return the identity of a workspace; a new one, not yet written, where it has none.

    Raises CorruptError for a damaged file.
    """
    if not storage.exists(IDENTITY_FILE):
        return WorkspaceIdentity()
    try:
        return WorkspaceIdentity(**read_checksummed(storage, IDENTITY_FILE))
    except ValidationError as error:
        raise CorruptError(
            f"{IDENTITY_FILE} is not what was written", where=storage.uri, fix="restore the file from a backup"
        ) from error


T = TypeVar("T")

MAX_GENERATIONS = 64
"""Generations that a workspace remembers of a store, the newest first; a store may come back from so far."""
TAKE_OVER = "samespace promote ID --take-over"


def feature_view_names(spaces: Iterable[str]) -> dict[str, FeatureViewSpec]:
    """Return all views that a workspace may write in some spaces, both slots, by Feast's name."""
    return {view.view(space, slot): view for space in spaces for view in VIEWS for slot in (BLUE_SLOT, GREEN_SLOT)}


def require_ownership(repository: FeatureRepository) -> None:
    """Raise ConfigError where the online store is another workspace's, StoreError where it cannot be asked."""
    names = repository.described()["views"] or feature_view_names([FIRST_SPACE])
    with _Owner(repository) as owner:
        owner.judge(owner.read(names), names)


def require_ownership_early(repository: FeatureRepository) -> None:
    """Do the same at the beginning of long work; a store that cannot be asked yet may be there when it is needed."""
    if not repository.has_own_store:
        with suppress(StoreError):
            require_ownership(repository)


def claim_ownership(repository: FeatureRepository, spaces: Iterable[str]) -> None:
    """Mark the views of some spaces as this workspace's, before anything is written into the online store.

    Rows that the store has lost since are noted as lost. Raises ConfigError where a view is another workspace's or a
    copy's, StoreError where the store cannot be asked.
    """
    names = feature_view_names(spaces)
    if not names:
        return
    with _Owner(repository) as owner:
        if owner.identity.clearing:
            owner.take_over(names)
        found = owner.read(names)
        if owner.judge(found, names):
            owner.forget()
        owner.mark(found, names)


def take_over_ownership(repository: FeatureRepository, spaces: Iterable[str]) -> None:
    """Make the views of some spaces this workspace's, whoever had them, and remove the rows that are there.

    All rows count as lost: what is published next is written in full. Raises StoreError where the store refuses;
    interrupted, the next command that writes completes it.
    """
    with _Owner(repository) as owner:
        owner.take_over(feature_view_names(spaces))


class _Owner:
    """The workspace as the owner of its rows in one online store; a context manager."""

    def __init__(self, repository: FeatureRepository) -> None:
        self.repository, self.storage = repository, repository.root
        self.identity = read_identity(self.storage)
        self.me, self.store_name = self.identity.workspace_id, repository.online_name
        self.generation = f"@{self.me}"

    def __enter__(self) -> "_Owner":
        with store_errors(self.repository.config):
            self.config = self.repository.store_config()
            self.store = online_store_of(self.config)
            self.marks: MarkStore = mark_store(self.store, self.config)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # an error of closing says less than what happened before
            self.marks.close()

    def read(self, names: Iterable[str]) -> Marks:
        """Return the marks of views, and the generation."""
        return self._ask(lambda: self.marks.read([*names, self.generation]))

    def judge(self, found: Marks, names: Iterable[str]) -> bool:
        """Return whether rows were lost. Raises ConfigError where they are somebody else's."""
        others = sorted({found[name] for name in names if found.get(name, self.me) != self.me})
        if others:
            raise self._refused(f"belongs to workspace {', '.join(others)}", "that workspace is gone for good")
        known, generation = self.identity.generations.get(self.store_name), found.get(self.generation)
        if generation is not None and (original := self._original()):
            raise self._refused(f"belongs to the workspace in {original}, of which this is a copy", "it is given up")
        if known is None or generation in (known[0], self.identity.pending or known[0]):
            return False
        if generation is not None and generation not in known:
            raise self._refused("was last written by a copy of this workspace", "the copy is given up")
        return True

    def mark(self, found: Marks, names: Iterable[str]) -> None:
        """Claim the views that have no owner yet, and begin a generation."""
        fresh, free = secrets.token_hex(8), [name for name in names if name not in found]
        self._note(pending=fresh, place=self._place())
        if free:
            now = self._ask(lambda: self.marks.claim(free, self.me))
            self.judge(found | now, names)
        self._begin(fresh)

    def take_over(self, names: dict[str, FeatureViewSpec]) -> None:
        """Mark everything as this workspace's, then remove the rows."""
        fresh = secrets.token_hex(8)
        self._note(pending=fresh, place=self._place(), clearing=True)
        self._ask(lambda: self.marks.put(dict.fromkeys(names, self.me)))
        self._ask(lambda: _clear(self.store, self.config, names))
        self.forget()
        self._begin(fresh)
        self._note(clearing=False)

    def forget(self) -> None:
        """Note that no row of this workspace is known to be in the store: whatever is written next is written whole."""
        for (space_id, slot), held in published_slots(self.storage).items():
            if held.online_store == self.store_name:
                forget_rows(self.storage, space_id, slot)

    def _begin(self, fresh: str) -> None:
        self._ask(lambda: self.marks.put({self.generation: fresh}))
        known = (fresh, *self.identity.generations.get(self.store_name, ()))[:MAX_GENERATIONS]
        self._note(pending="", generations=self.identity.generations | {self.store_name: known})

    def _note(self, **facts: Any) -> None:
        self.identity = self.identity.model_copy(update=facts)
        self.storage.write(IDENTITY_FILE, dump_checksummed(self.identity.model_dump(mode="json")))

    def _ask(self, question: Callable[[], T]) -> T:
        with store_errors(self.repository.config):
            return question()

    def _place(self) -> str:
        """Where the workspace is, noted only if others can reach its store: a file inside it moves with it."""
        return "" if self.repository.has_own_store else _resolved(self.storage.uri)

    def _original(self) -> str:
        """Where the workspace is of which this one is a copy; "" where it is none, or was moved."""
        there = self.identity.place
        if not there or there == _resolved(self.storage.uri) or not self._place():
            return ""
        with suppress(SamespaceError):
            other = Storage(there)
            if (
                other.exists(IDENTITY_FILE)
                and read_identity(other).workspace_id == self.me
                and not _same(other, self.storage)
            ):
                return there
        return ""

    def _refused(self, why: str, case: str) -> ConfigError:
        kind = self.repository.config.online_store.get("type", "sqlite")
        return ConfigError(
            f"the online store {why}; this is workspace {self.me}",
            where=f"[publish] online_store, type {kind}, Feast project {PROJECT}",
            expected="an online store of its own for each workspace: another server, database or file",
            fix=f"change [publish] online_store; or, if {case}: {TAKE_OVER}, which removes the rows that are there",
        )


def _clear(store: Any, config: Any, names: dict[str, FeatureViewSpec]) -> None:
    """Remove every row of some views, through Feast, and leave their tables empty."""
    views = [_bare(name, view) for name, view in names.items()]
    if hasattr(store, "delete_table"):  # Redis scans for the rows, which its `update` may be configured not to do
        for view in views:
            store.delete_table(config, view)
        return
    store.update(config, views, [], [], [], partial=True)
    store.update(config, [], views, [], [], partial=True)


def _bare(name: str, view: FeatureViewSpec) -> Any:
    """A Feast view with a name, a join key and features: all that a store needs to find its rows."""
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import String

    entity = Entity(name=view.entity, join_keys=[view.join_key], value_type=ValueType.STRING)
    source = FileSource(name=name, path="unused.parquet", timestamp_field="event_timestamp")
    fields = [Field(name=feature, dtype=String) for feature in view.features]
    made = FeatureView(name=name, entities=[entity], schema=fields, source=source, ttl=timedelta(0))
    made.entity_columns = [Field(name=view.join_key, dtype=String)]
    return made


def _resolved(uri: str) -> str:
    return absolute(uri) if "://" in uri else str(Path(uri).resolve())


def _same(left: Storage, right: Storage) -> bool:
    """Whether two places are one folder, reached by two paths."""
    if not (left.is_local and right.is_local):
        return False
    one, other = (storage.local(IDENTITY_FILE).stat() for storage in (left, right))
    return (one.st_ino, one.st_mtime_ns) == (other.st_ino, other.st_mtime_ns)


LIMITS: dict[str, float] = {"socket_connect_timeout": 2, "socket_timeout": 2}


@dataclass(frozen=True)
class OnlineCheck:
    """What was found: `says`, and `risk` with its cure, both empty where there is none."""

    says: str
    risk: str = ""
    cure: str = ""


def check_online_store(storage: Storage, config: PublishConfig) -> OnlineCheck:
    """Ask the online store of a workspace.

    Raises StoreError where it does not answer, ConfigError where its settings cannot work or its rows are another
    workspace's.
    """
    block = config.online_store
    kind = str(block.get("type", "sqlite"))
    repository = FeatureRepository(storage, config)
    if repository.has_own_store:
        return OnlineCheck(kind)
    if kind != "redis":
        require_ownership(repository)
        return OnlineCheck(f"{kind} answers")
    address = str(block.get("connection_string", "localhost:6379"))
    impatient = config.model_copy(
        update={"online_store": block | {"connection_string": with_deadlines(address, LIMITS)}}
    )
    repository = FeatureRepository(storage, impatient)
    require_ownership(repository)
    with store_errors(config):
        policies = _policies(repository)
    says = f"{block.get('redis_type', 'redis')} at {', '.join(redis_nodes(address))} answers"
    evicts = sorted(policies - {"noeviction"})
    if evicts:
        return OnlineCheck(f"{says}, but may drop rows: {', '.join(evicts)}", "evicts", "maxmemory-policy noeviction")
    return OnlineCheck(says)


def _policies(repository: FeatureRepository) -> set[str]:
    """What the servers do when their memory is full; servers without a limit are left out."""
    config = repository.store_config()
    client = online_store_of(config)._get_client(config.online_store)
    try:
        found = client.info("memory")
    finally:
        client.close()
    servers: list[dict[str, Any]] = (
        list(found.values()) if all(isinstance(one, dict) for one in found.values()) else [found]
    )
    return {str(one.get("maxmemory_policy", "noeviction")) for one in servers if one.get("maxmemory")}
