"""Histories: from the lake as of a moment to one tokenised history per member, shard by shard.

lake ─ judge (quarantine) ─┬─ refused rows    → dead_letter/
                           └─ accepted events → sort, merge into tokens → histories/part-00000.parquet …
titles ────────────────────────────────────────────────────────────────→ work/catalogue.parquet
"""

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from embeddings.advice import advice, evidence_of
from embeddings.catalogue import catalogue
from embeddings.changed import carrying, set_apart
from embeddings.histories_config import HistoriesConfig
from embeddings.history_shards import Tally, shard_histories
from embeddings.opening import memory_snapshot, with_snapshot
from embeddings.quarantine import DUPLICATE, bad_fraction, check_budget
from embeddings.shards import shards_for
from embeddings.snapshot import Input, Moment, Snapshot, count_members
from embeddings.tags import Tags, read_tags
from stores import dead_letter
from stores.columns import TIMED_TEXT, TITLE_ID
from stores.errors import ContractError, NotFoundError
from stores.lake.contract import Lake
from stores.lake.left_out import left_out, remark
from stores.lake.mending import attempt, reading
from stores.lake.scan import connect
from stores.lake.tables import INTERACTIONS, TAGS, TITLES
from stores.progress import Progress
from stores.release import Release, StageReport
from stores.storage import Storage
from stores.suppression import Suppression, suppressed

__all__ = [
    "CATALOGUE",
    "HistoriesConfig",
    "plan_shards",
    "read_histories",
    "refusals",
    "require_sound",
    "run",
    "tokenise",
]

CATALOGUE = "work/catalogue.parquet"
TIMED_TEXTS = "work/timed_texts.parquet"


def run(config: HistoriesConfig, release: Release) -> StageReport:
    """Write `histories/`, `work/catalogue.parquet` and `dead_letter/` of a release from the lake it names.

    Shards that are finished are not written again. Raises NotFoundError where there is no lake or no event
    as of the moment, ContractError where too many rows are bad, StoreError where DuckDB cannot go on.
    """
    plan = release.plan
    lake = Lake.open(plan.lake)
    erased = suppressed(Storage(release.workspace_uri))
    remark(lake)
    moment = Moment(plan.as_of, plan.created_at)
    return with_snapshot(lake, moment, config, erased, lambda snapshot: _written(snapshot, release, lake, erased))


def _written(snapshot: Snapshot, release: Release, lake: Lake, erased: Suppression | None) -> StageReport:
    letters, tags = _letters(snapshot), read_tags(snapshot, lake, erased)
    letters |= {TAGS: tags.letters} if tags else {}
    for name, table in letters.items():
        dead_letter.write(release, name, table)
    _check(snapshot, letters, lake, tags)
    tally = _write_histories(snapshot, release)
    repeats = _repeat_letters(snapshot, tally)
    dead_letter.write(release, "duplicates", repeats)
    _check(snapshot, {**letters, INTERACTIONS: pa.concat_tables([letters[INTERACTIONS], repeats])}, lake)
    titles = catalogue(snapshot, tally.plays)
    if not release.finished(CATALOGUE):
        _write_catalogue(release, titles.table, tags)
    missing = [*snapshot.lost_cells(), *titles.missing]
    metrics = _metrics(snapshot, tally) | {"cells_missing": missing, "files_left_out": left_out(lake)}
    metrics |= {"tags": tags.table.num_rows, "tags_refused": tags.refused} if tags else {}
    return StageReport(name="histories", rows=tally.members, metrics=metrics)


def _write_catalogue(release: Release, titles: pa.Table, tags: Tags | None) -> None:
    """The catalogue; beside it the texts that its titles got one by one, for those who ask about an earlier moment."""
    if tags:
        titles = tags.onto(titles)
        release.write_table(TIMED_TEXTS, titles.select([TITLE_ID, TIMED_TEXT]))
        titles = titles.drop_columns([TIMED_TEXT])
    release.write_table(CATALOGUE, titles)


def _letters(snapshot: Snapshot) -> dict[str, pa.Table]:
    return {table.name: snapshot.letters(table) for table in (snapshot.titles, snapshot.interactions)}


def _write_histories(snapshot: Snapshot, release: Release) -> Tally:
    shards, live = snapshot.shard_members(release.plan.shards), carrying(release)
    tally = Tally(len(snapshot.title_ids()), snapshot.config, snapshot.newest or 0)
    with Progress("histories", sum(shard.rows for shard in shards), "events") as progress:
        for shard, table in shard_histories(snapshot, shards, tally):
            name = f"part-{shard.number:05d}.parquet"
            if not release.finished(f"histories/{name}"):
                release.write_table(f"histories/{name}", table)
            if live:
                set_apart(release, live, name, table)
            progress.advance(shard.rows)
    return tally


def _repeat_letters(snapshot: Snapshot, tally: Tally) -> pa.Table:
    """Letters of the exact duplicates, which also enter the snapshot's counts."""
    if not tally.refused:
        return dead_letter.letters_table([])
    table = snapshot.interactions
    snapshot.refused[INTERACTIONS][DUPLICATE] = tally.refused
    found = [snapshot.letter_at(table, pos, "", None, DUPLICATE) for pos in tally.repeats]
    left = tally.refused - len(found)
    rest = [dead_letter.many(INTERACTIONS, left, "", "not listed one by one", DUPLICATE)] if left else []
    return dead_letter.letters_table([*found, *rest])


def _check(
    snapshot: Snapshot, letters: dict[str, pa.Table], lake: Lake | None = None, tags: Tags | None = None
) -> None:
    """Raise ContractError where too many rows of a table are bad; a `lake` lets it name what its files store."""
    if tags:
        examples = tags.letters.slice(0, 1000).to_pylist()
        check_budget(TAGS, tags.refused, tags.rows, snapshot.config.max_bad_fraction, examples)
    for table in (snapshot.titles, snapshot.interactions):
        examples = letters[table.name].slice(0, 1000).to_pylist()
        counts, allowed = snapshot.refused[table.name], snapshot.config.max_bad_fraction
        cure = partial(_cure, snapshot, table, lake)
        check_budget(table.name, counts, table.rows, allowed, examples, cure)
    if snapshot.newest is None:
        raise NotFoundError(
            f"the lake has no event up to {snapshot.moment.as_of.isoformat()}",
            expected="at least one accepted interaction",
            fix="choose a later --as-of",
        )


def require_sound(snapshot: Snapshot, lake: Lake, erased: Suppression | None = None) -> None:
    """Raise as a night does where too many rows of a snapshot are bad or none is left."""
    _check(snapshot, _letters(snapshot), lake, read_tags(snapshot, lake, erased))


def _cure(snapshot: Snapshot, table: Input, lake: Lake | None) -> str:
    counts = snapshot.refused[table.name]
    return advice(evidence_of(snapshot, table, lake), counts, bad_fraction(counts, table.rows))


def _metrics(snapshot: Snapshot, tally: Tally) -> dict[str, Any]:
    refused, rows = snapshot.refused, {table.name: table.rows for table in (snapshot.interactions, snapshot.titles)}
    newest = datetime.fromtimestamp((snapshot.newest or 0) / 1e6, UTC)
    counts = zip(snapshot.config.actions, tally.actions[1:].tolist(), strict=True)
    return {
        "events_read": rows[INTERACTIONS],
        "events_accepted": tally.events,
        "titles_read": rows[TITLES],
        "titles": len(tally.plays),
        "members": tally.members,
        "tokens": tally.tokens,
        "tokens_dropped": tally.dropped,
        "events_per_token": round(tally.events / max(tally.tokens + tally.dropped, 1), 4),
        "refused": refused[INTERACTIONS],
        "titles_refused": refused[TITLES],
        "bad_fraction": bad_fraction(refused[INTERACTIONS], rows[INTERACTIONS]),
        "titles_bad_fraction": bad_fraction(refused[TITLES], rows[TITLES]),
        "newest_event": newest.isoformat(),
        "actions": {action: count for action, count in counts if count},
        "profile": tally.profile.metrics(),
        "unreadable_files": [file.path for table in (snapshot.titles, snapshot.interactions) for file in table.broken],
    }


# --- the same without a release


def refusals(
    lake: Lake, as_of: datetime, config: HistoriesConfig, shards: int, erased: Suppression | None = None
) -> tuple[dict[str, pa.Table], ContractError | None]:
    """The letters of a night as of a moment by table, and the error that it would end with.

    Judges exactly as `run` does, duplicates too, and keeps nothing. Raises NotFoundError where there is no event.
    """
    moment = Moment(as_of, datetime.now(UTC))
    return with_snapshot(lake, moment, config, erased, lambda snapshot: _judged(snapshot, shards, lake, erased))


def _judged(
    snapshot: Snapshot, shards: int, lake: Lake, erased: Suppression | None
) -> tuple[dict[str, pa.Table], ContractError | None]:
    letters, repeats, tags = _letters(snapshot), _repeats(snapshot, shards), read_tags(snapshot, lake, erased)
    letters |= {TAGS: tags.letters} if tags else {}
    letters[INTERACTIONS] = pa.concat_tables([letters[INTERACTIONS], repeats])
    try:
        _check(snapshot, letters, lake, tags)
    except ContractError as error:
        return letters, error
    return letters, None


def _repeats(snapshot: Snapshot, shards: int) -> pa.Table:
    """Letters of the exact duplicates, found as a night finds them; the histories are thrown away."""
    tally = Tally(len(snapshot.title_ids()), snapshot.config, snapshot.newest or 0)
    for _ in shard_histories(snapshot, snapshot.shard_members(shards), tally):
        pass
    return _repeat_letters(snapshot, tally)


def read_histories(
    lake: Lake, as_of: datetime, config: HistoriesConfig, erased: Suppression | None = None
) -> tuple[pa.Table, pa.Table]:
    """Histories (`columns.history_schema`, by member id) and catalogue of a lake as of a moment, in memory.

    For training and evaluation; members in the list `erased` are left out. The catalogue of a lake with tags has the
    column `timed_text`, so that its texts can be made as of an earlier moment. Raises as `run` does.
    """
    remark(lake)
    moment = Moment(as_of, datetime.now(UTC))
    return with_snapshot(lake, moment, config, erased, lambda snapshot: _in_memory(snapshot, lake, erased))


def tokenise(interactions: pa.Table, titles: pa.Table | None = None, config: HistoriesConfig | None = None) -> pa.Table:
    """The histories of interactions in memory, in the contract's columns: `columns.history_schema`, by member id.

    Without `titles` every title that occurs is one. Raises ContractError where too many rows are bad.
    """
    now = datetime.now(UTC)
    with memory_snapshot(interactions, titles, Moment(now, now), config or HistoriesConfig()) as snapshot:
        return _in_memory(snapshot)[0]


def plan_shards(lake: Lake, config: HistoriesConfig) -> int:
    """How many shards the first night of a workspace should have; later nights keep that number."""
    with reading(lake), connect(lake, config.scan) as connection:
        members = attempt(connection, lake, (INTERACTIONS,), lambda sound: count_members(connection, sound))
    return shards_for(members, config.members_per_shard, config.least_shards)


def _in_memory(
    snapshot: Snapshot, lake: Lake | None = None, erased: Suppression | None = None
) -> tuple[pa.Table, pa.Table]:
    tags = read_tags(snapshot, lake, erased) if lake else None
    _check(snapshot, _letters(snapshot), lake, tags)
    tally = Tally(len(snapshot.title_ids()), snapshot.config, snapshot.newest or 0)
    tables = [table for _, table in shard_histories(snapshot, snapshot.shard_members(1), tally)]
    _check(snapshot, {INTERACTIONS: _repeat_letters(snapshot, tally), TITLES: dead_letter.letters_table([])}, lake)
    titles = catalogue(snapshot, tally.plays).table
    return pa.concat_tables(tables), tags.onto(titles) if tags else titles
