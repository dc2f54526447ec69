"""Histories: from the lake as of a moment to one tokenised history per member, shard by shard.

lake ─ judge (quarantine) ─┬─ refused rows    → dead_letter/
                           └─ accepted events → sort, merge into tokens → histories/part-00000.parquet …
titles ────────────────────────────────────────────────────────────────→ work/catalogue.parquet
"""

from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from embeddings.histories.build import HistoryStats, build_shards
from embeddings.histories.catalogue import build_catalogue
from embeddings.histories.changed_histories import incremental_base, write_changed_histories
from embeddings.histories.config import HistoriesConfig
from embeddings.histories.quarantine import DUPLICATE, bad_fraction, check_budget
from embeddings.histories.refusal_advice import advise, collect_evidence
from embeddings.histories.sharding import shards_for
from embeddings.histories.snapshot import (
    Snapshot,
    SnapshotTime,
    TableInput,
    count_members,
    lake_input,
    memory_snapshot,
    with_snapshot,
)
from embeddings.histories.tags import Tags, read_tags
from stores.errors import ContractError, NotFoundError
from stores.files.filesystem import Storage
from stores.lake.contract import Lake
from stores.lake.file_listing import describe_left_out, log_left_out
from stores.lake.repair import run_with_repair, translate_errors
from stores.lake.scan import connect
from stores.lake.tables import INTERACTIONS, TAGS, TITLES
from stores.progress import Progress
from stores.publishing.suppression_list import SuppressionList, read_suppression_list
from stores.releases import dead_letter
from stores.releases.release import Release, StageReport
from stores.schema import TIMED_TEXT, TITLE_ID

__all__ = [
    "CATALOGUE",
    "HistoriesConfig",
    "plan_shards",
    "read_histories",
    "require_sound",
    "run",
    "simulate_rejections",
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
    erased = read_suppression_list(Storage(release.workspace_uri))
    log_left_out(lake.left_out)
    moment = SnapshotTime(plan.as_of, plan.created_at)
    return with_snapshot(lake, moment, config, erased, lambda snapshot: _written(snapshot, release, lake, erased))


def _written(snapshot: Snapshot, release: Release, lake: Lake, erased: SuppressionList | None) -> StageReport:
    letters, tags = _rejected_rows(snapshot), read_tags(snapshot, lake, erased)
    letters |= {TAGS: tags.letters} if tags else {}
    for name, table in letters.items():
        dead_letter.write_dead_letter(release, name, table)
    _check_budget(snapshot, letters, lake, tags)
    tally = _write_histories(snapshot, release)
    repeats = _duplicate_rows(snapshot, tally)
    dead_letter.write_dead_letter(release, "duplicates", repeats)
    _check_budget(snapshot, {**letters, INTERACTIONS: pa.concat_tables([letters[INTERACTIONS], repeats])}, lake)
    titles = build_catalogue(snapshot, tally.plays)
    if not release.completed_file(CATALOGUE):
        _write_catalogue(release, titles.table, tags)
    missing = [*snapshot.lost_cells(), *titles.missing]
    metrics = _metrics(snapshot, tally) | {"cells_missing": missing, "files_left_out": describe_left_out(lake.left_out)}
    metrics |= {"tags": tags.table.num_rows, "tags_refused": tags.refused} if tags else {}
    return StageReport(name="histories", rows=tally.members, metrics=metrics)


def _write_catalogue(release: Release, titles: pa.Table, tags: Tags | None) -> None:
    """The catalogue; beside it the texts that its titles got one by one, for those who ask about an earlier moment."""
    if tags:
        titles = tags.onto(titles)
        release.write_table(TIMED_TEXTS, titles.select([TITLE_ID, TIMED_TEXT]))
        titles = titles.drop_columns([TIMED_TEXT])
    release.write_table(CATALOGUE, titles)


def _rejected_rows(snapshot: Snapshot) -> dict[str, pa.Table]:
    return {table.name: snapshot.rejected_rows(table) for table in (snapshot.titles, snapshot.interactions)}


def _write_histories(snapshot: Snapshot, release: Release) -> HistoryStats:
    shards, live = snapshot.shard_members(release.plan.shards), incremental_base(release)
    tally = HistoryStats(len(snapshot.title_ids()), snapshot.config, snapshot.newest_event_us or 0)
    with Progress("histories", sum(shard.rows for shard in shards), "events") as progress:
        for shard, table in build_shards(snapshot, shards, tally):
            name = f"part-{shard.number:05d}.parquet"
            if not release.completed_file(f"histories/{name}"):
                release.write_table(f"histories/{name}", table)
            if live:
                write_changed_histories(release, live, name, table)
            progress.advance(shard.rows)
    return tally


def _duplicate_rows(snapshot: Snapshot, tally: HistoryStats) -> pa.Table:
    """Letters of the exact duplicates, which also enter the snapshot's counts."""
    if not tally.refused:
        return dead_letter.rejected_table([])
    table = snapshot.interactions
    snapshot.refused[INTERACTIONS][DUPLICATE] = tally.refused
    found = [snapshot.rejected_row(table, pos, "", None, DUPLICATE) for pos in tally.repeats]
    left = tally.refused - len(found)
    rest = [dead_letter.rejected_summary(INTERACTIONS, left, "", "not listed one by one", DUPLICATE)] if left else []
    return dead_letter.rejected_table([*found, *rest])


def _check_budget(
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
    if snapshot.newest_event_us is None:
        raise NotFoundError(
            f"the lake has no event up to {snapshot.moment.as_of.isoformat()}",
            expected="at least one accepted interaction",
            fix="choose a later --as-of",
        )


def require_sound(snapshot: Snapshot, lake: Lake, erased: SuppressionList | None = None) -> None:
    """Raise as a night does where too many rows of a snapshot are bad or none is left."""
    _check_budget(snapshot, _rejected_rows(snapshot), lake, read_tags(snapshot, lake, erased))


def _cure(snapshot: Snapshot, table: TableInput, lake: Lake | None) -> str:
    counts = snapshot.refused[table.name]
    return advise(collect_evidence(snapshot, table, lake), counts, bad_fraction(counts, table.rows))


def _metrics(snapshot: Snapshot, tally: HistoryStats) -> dict[str, Any]:
    refused, rows = snapshot.refused, {table.name: table.rows for table in (snapshot.interactions, snapshot.titles)}
    newest = datetime.fromtimestamp((snapshot.newest_event_us or 0) / 1e6, UTC)
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


def simulate_rejections(
    lake: Lake, as_of: datetime, config: HistoriesConfig, shards: int, erased: SuppressionList | None = None
) -> tuple[dict[str, pa.Table], ContractError | None]:
    """The letters of a night as of a moment by table, and the error that it would end with.

    Judges exactly as `run` does, duplicates too, and keeps nothing. Raises NotFoundError where there is no event.
    """
    moment = SnapshotTime(as_of, datetime.now(UTC))
    return with_snapshot(lake, moment, config, erased, lambda snapshot: _judged(snapshot, shards, lake, erased))


def _judged(
    snapshot: Snapshot, shards: int, lake: Lake, erased: SuppressionList | None
) -> tuple[dict[str, pa.Table], ContractError | None]:
    letters, repeats, tags = _rejected_rows(snapshot), _repeats(snapshot, shards), read_tags(snapshot, lake, erased)
    letters |= {TAGS: tags.letters} if tags else {}
    letters[INTERACTIONS] = pa.concat_tables([letters[INTERACTIONS], repeats])
    try:
        _check_budget(snapshot, letters, lake, tags)
    except ContractError as error:
        return letters, error
    return letters, None


def _repeats(snapshot: Snapshot, shards: int) -> pa.Table:
    """Letters of the exact duplicates, found as a night finds them; the histories are thrown away."""
    tally = HistoryStats(len(snapshot.title_ids()), snapshot.config, snapshot.newest_event_us or 0)
    for _ in build_shards(snapshot, snapshot.shard_members(shards), tally):
        pass
    return _duplicate_rows(snapshot, tally)


def read_histories(
    lake: Lake, as_of: datetime, config: HistoriesConfig, erased: SuppressionList | None = None
) -> tuple[pa.Table, pa.Table]:
    """Histories (`columns.history_schema`, by member id) and catalogue of a lake as of a moment, in memory.

    For training and evaluation; members in the list `erased` are left out. The catalogue of a lake with tags has the
    column `timed_text`, so that its texts can be made as of an earlier moment. Raises as `run` does.
    """
    log_left_out(lake.left_out)
    moment = SnapshotTime(as_of, datetime.now(UTC))
    return with_snapshot(lake, moment, config, erased, lambda snapshot: _in_memory(snapshot, lake, erased))


def tokenise(interactions: pa.Table, titles: pa.Table | None = None, config: HistoriesConfig | None = None) -> pa.Table:
    """The histories of interactions in memory, in the contract's columns: `columns.history_schema`, by member id.

    Without `titles` every title that occurs is one. Raises ContractError where too many rows are bad.
    """
    now = datetime.now(UTC)
    with memory_snapshot(interactions, titles, SnapshotTime(now, now), config or HistoriesConfig()) as snapshot:
        return _in_memory(snapshot)[0]


def plan_shards(lake: Lake, config: HistoriesConfig) -> int:
    """How many shards the first night of a workspace should have; later nights keep that number."""
    with translate_errors(lake), connect(lake, config.scan) as connection:
        members = run_with_repair(connection, lake, (INTERACTIONS,), lambda sound: count_members(connection, sound))
    return shards_for(members, config.members_per_shard, config.min_shards)


def _in_memory(
    snapshot: Snapshot, lake: Lake | None = None, erased: SuppressionList | None = None
) -> tuple[pa.Table, pa.Table]:
    tags = read_tags(snapshot, lake, erased) if lake else None
    _check_budget(snapshot, _rejected_rows(snapshot), lake, tags)
    tally = HistoryStats(len(snapshot.title_ids()), snapshot.config, snapshot.newest_event_us or 0)
    tables = [table for _, table in build_shards(snapshot, snapshot.shard_members(1), tally)]
    _check_budget(
        snapshot, {INTERACTIONS: _duplicate_rows(snapshot, tally), TITLES: dead_letter.rejected_table([])}, lake
    )
    titles = build_catalogue(snapshot, tally.plays).table
    return pa.concat_tables(tables), tags.onto(titles) if tags else titles


def active_members(lake: Lake, config: HistoriesConfig, since: datetime | None, until: datetime) -> int:
    """Members with an event after `since` (None: ever) up to `until`; one pass over two columns, nothing is judged.

    Raises StoreError where the lake cannot be read.
    """
    moments = [_micros(until), _micros(since or config.earliest)]
    with translate_errors(lake), connect(lake, config.scan) as connection:

        def count(sound: Lake) -> int:
            events = lake_input(sound, sound.interactions).sql
            asked = f"SELECT count(DISTINCT member_id) FROM ({events}) WHERE event_time <= ? AND event_time > ?"
            found = connection.execute(asked, moments).fetchone()
            return int(found[0]) if found else 0

        return run_with_repair(connection, lake, (INTERACTIONS,), count)


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
