"""Small releases written the way the stages of a night write them."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stores.releases.release import Plan, Release, StageReport
from stores.releases.workspace import Workspace
from stores.schema import (
    EMBEDDING,
    ENCODED_AT,
    EVENT_TIME,
    HISTORY_HASH,
    MEMBER_ID,
    NAME,
    RELEASE_ID,
    TIMESTAMP_TYPE,
    TITLE_ID,
    title_vector_schema,
)
from validation.config import GateConfig
from validation.job import run_index, run_input, run_vectors

FIRST = datetime(2026, 7, 20, 2, tzinfo=UTC)
WIDTH, MEMBERS, TITLES, SHARDS = 8, 240, 60, 3
GENRES = ("Drama", "Comedy", "Space <opera>")

Edit = Callable[[dict[str, Any]], None]


class Nights:
    """Writes the nights of one workspace; `edit` spoils the content of one before it is written."""

    def __init__(self, workspace: Path) -> None:
        self.uri = str(workspace)
        self.releases: list[Release] = []
        rng = np.random.default_rng(7)
        scale = np.linspace(2.0, 0.5, WIDTH)
        self.content = {
            "members": rng.normal(size=(MEMBERS, WIDTH)) * scale + 0.3,
            "titles": rng.normal(size=(TITLES, WIDTH)) * scale + 0.3,
        }

    def stage(self, edit: Edit = lambda content: None, seed: int = 0) -> Release:
        """A night up to its index stage; everything drifts a little from the night before."""
        number = len(self.releases)
        rng = np.random.default_rng([number, seed])
        before = self.releases[-1].release_id if self.releases else None
        created = FIRST + timedelta(days=number)
        content = self._content(rng, created, before)
        edit(content)
        release = Release(self.uri, f"{created:%Y%m%dT%H%M%SZ}-{number:04x}")
        shutil.rmtree(release.storage.local(), ignore_errors=True)
        plan = Plan(
            release_id=release.release_id,
            plan_hash="0" * 8,
            lake="lake",
            as_of=created,
            created_at=created,
            model_id=content["model_id"],
            space_id="1",
            reference_release=self.releases[0].release_id if self.releases else None,
            previous_release=before,
            shards=SHARDS,
            config={},
        )
        release.storage.write("plan.json", plan.model_dump_json().encode())
        _write_tables(release, content, created)
        for name, metrics in content["reports"].items():
            if metrics is not None:
                release.run_stage(name, lambda m=metrics, n=name: StageReport(name=n, rows=1, metrics=m))
        return release

    def seal(self, release: Release, gates: bool = True) -> Release:
        """Judge and seal a staged night, so that the next one has something to be compared with."""
        if gates:
            for name, stage in (("gate_input", run_input), ("gate_vectors", run_vectors), ("gate_index", run_index)):
                release.run_stage(name, lambda s=stage: s(GateConfig(), release))
        names = ("histories", "gate_input", "encode", "align", "gate_vectors", "index", "gate_index")
        reports = [report for name in names if (report := release.stage_report(name))]
        reasons = [line for report in reports for line in report.metrics.get("failed", [])]
        release.seal(reasons, reports, {"ray": "2.60"})
        self.releases.append(release)
        return release

    def _content(self, rng: np.random.Generator, created: datetime, before: str | None) -> dict[str, Any]:
        drifted = {side: x + rng.normal(scale=0.02, size=x.shape) for side, x in self.content.items()}
        number = len(self.releases)
        events = 10_000 + 300 * number
        return {
            "model_id": "m1",
            "snapshot_members": np.arange(MEMBERS),
            "snapshot_titles": np.arange(TITLES),
            "member_ids": np.arange(MEMBERS),
            "title_ids": np.arange(TITLES),
            "names": [f"Title {i}" for i in range(TITLES)],
            "plays": np.argsort(np.argsort(drifted["titles"] @ drifted["members"].mean(axis=0))),
            "drop_members": 0,
            "drop_titles": 0,
            "reports": {
                "histories": {
                    "events_read": events + 10,
                    "events_accepted": events,
                    "refused": {"unknown title": 10},
                    "bad_fraction": 10 / (events + 10),
                    "titles_refused": {},
                    "titles_bad_fraction": 0.0,
                    "unreadable_files": [],
                    "members": MEMBERS,
                    "titles": TITLES,
                    "tokens": events // 2,
                    "newest_event": (created - timedelta(hours=3)).isoformat(),
                    "profile": _profile(rng, created),
                },
                "encode": {"members": MEMBERS, "titles": TITLES, "dim": WIDTH, "refused": 0},
                "align": {
                    "outcome": "same_space",
                    "opened": before is None,
                    "space_id": "1",
                    "reasons": [],
                    "width": WIDTH,
                    **({"heldout_cosine_p50": 0.97, "heldout_cosine_p5": 0.8} if before else {}),
                },
                "index": {
                    name: {
                        "titles": TITLES,
                        "backend": "flat",
                        "recall": 0.999,
                        "recall_low": 0.997,
                        "recall_high": 1.0,
                        "queries_per_second": 5000.0,
                        "trials": [],
                    }
                    for name in ("candidates", "similar")
                },
            },
            **drifted,
        }


def _profile(rng: np.random.Generator, created: datetime) -> dict[str, Any]:
    """What the last day looked like; `days` are the same whenever they are counted, but for the newest."""
    days = [(created - timedelta(days=ago)).date() for ago in range(14)]
    counts = [int(np.random.default_rng(day.toordinal()).integers(900, 1100)) for day in days]
    week = 1 + 0.3 * (created.weekday() in (4, 5))
    countries = {name: int(rng.poisson(share * week)) for name, share in (("US", 600), ("BR", 250), ("NZ", 120))}
    return {
        "days": {day.isoformat(): count for day, count in zip(days, [90, *counts[1:]], strict=True)},
        "countries": {name: 5_000 + 40 * created.toordinal() for name in countries},
        "last_day": {
            "events": sum(countries.values()),
            "countries": countries,
            "durations": {"play": {"median_s": round(2_400 * rng.uniform(0.9, 1.1), 1), "count": 700}},
        },
    }


def _write_tables(release: Release, content: dict[str, Any], created: datetime) -> None:
    _write_catalogue(release, content)
    ids, known = content["member_ids"], content["snapshot_members"]
    kept = len(known) - content["drop_members"]
    for shard in range(SHARDS):
        home = known % SHARDS == shard
        release.write_table(f"histories/part-{shard:05d}.parquet", _histories(known[home]))
        rows = np.flatnonzero(home & (np.arange(len(known)) < kept))
        vectors = np.asarray(content["members"])[rows]
        table = {
            MEMBER_ID: pa.array(ids[rows]),
            EMBEDDING: _embedding(vectors),
            EVENT_TIME: pa.array([created] * len(rows), TIMESTAMP_TYPE),
            HISTORY_HASH: [f"hash-{member}" for member in known[rows]],
            "history_length": pa.array([3] * len(rows), pa.int32()),
            RELEASE_ID: [content.get("vectors_of", release.release_id)] * len(rows),
            ENCODED_AT: pa.array([created] * len(rows), TIMESTAMP_TYPE),
        }
        release.write_table(f"members/part-{shard:05d}.parquet", pa.table(table))
    _write_titles(release, content, created)


def _write_titles(release: Release, content: dict[str, Any], created: datetime) -> None:
    count = len(content["snapshot_titles"]) - content["drop_titles"]
    vectors = np.asarray(content["titles"])[:count]
    schema = title_vector_schema(pa.int64(), vectors.shape[1])
    values: dict[str, Any] = {name: pa.nulls(count, schema.field(name).type) for name in schema.names}
    values |= {
        TITLE_ID: pa.array(content["title_ids"][:count]),
        EMBEDDING: _embedding(vectors),
        NAME: content["names"][:count],
        "genres": pa.array([[GENRES[i % 3]] for i in content["snapshot_titles"][:count]], pa.list_(pa.string())),
        "plays": pa.array(content["plays"][:count], pa.int64()),
        RELEASE_ID: [content.get("vectors_of", release.release_id)] * count,
        ENCODED_AT: pa.array([created] * count, TIMESTAMP_TYPE),
    }
    release.write_table("titles/part-00000.parquet", pa.table(values))


def _histories(members: np.ndarray) -> pa.Table:
    return pa.table(
        {
            MEMBER_ID: pa.array(members),
            HISTORY_HASH: [f"hash-{member}" for member in members],
        }
    )


def _write_catalogue(release: Release, content: dict[str, Any]) -> None:
    table = pa.table({TITLE_ID: pa.array(content["snapshot_titles"]), NAME: content["names"]})
    release.write_table("work/catalogue.parquet", table)


def _embedding(vectors: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    """A workspace without any night yet."""
    return Nights(tmp_path / "workspace")


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Nights:
    """A workspace with three healthy nights; tests stage a fourth and do not seal it."""
    found = Nights(tmp_path_factory.mktemp("live") / "workspace")
    for _ in range(3):
        found.seal(found.stage())
    assert [release.manifest.status for release in Workspace.open(found.uri).releases()] == ["ready"] * 3
    return found
