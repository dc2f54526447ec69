"""A small planted world, and a service whose nights are written up to the encode stage."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from alignment import AlignmentConfig
from alignment.reference import to_column, to_matrix
from alignment.transform import AlignmentTransform
from stores.releases.release import Plan, Release, StageReport
from stores.schema import TIMESTAMP_TYPE, member_vector_schema, title_vector_schema

Rows = NDArray[np.float64]
CONFIG = AlignmentConfig()
WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class World:
    """Members and titles whose scores fall off over the dimensions, as real ones do."""

    members: Rows
    titles: Rows

    @property
    def scores(self) -> Rows:
        return self.members @ self.titles.T

    def retrained(self, seed: int, noise: float = 0.0, condition: float = 100.0) -> "World":
        """Another training: (W G⁻ᵀ, T G) for a random G, and each row a little elsewhere."""
        rng = np.random.default_rng(seed)
        G = random_map(self.titles.shape[1], condition, rng)
        W = self.members + noise * self.members.std(axis=0) * rng.normal(size=self.members.shape)
        T = self.titles + noise * self.titles.std(axis=0) * rng.normal(size=self.titles.shape)
        return World(W @ np.linalg.inv(G).T, T @ G)


def random_rotation(dim: int, rng: np.random.Generator) -> Rows:
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


def random_map(dim: int, condition: float, rng: np.random.Generator) -> Rows:
    return random_rotation(dim, rng) * np.geomspace(1, condition, dim) @ random_rotation(dim, rng)


def make_world(members: int = 600, titles: int = 300, dim: int = 12, seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(members, dim)) * np.geomspace(2, 0.5, dim)
    T = rng.normal(size=(titles, dim)) * np.geomspace(1, 0.4, dim)
    return World(W @ random_rotation(dim, rng), T @ random_rotation(dim, rng))


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def another_world() -> Callable[..., World]:
    """Worlds of other sizes and seeds."""
    return make_world


@pytest.fixture(scope="session")
def rotation() -> Callable[..., Rows]:
    return random_rotation


@dataclass
class Service:
    """A workspace whose nights are written up to the encode stage and then aligned."""

    uri: str
    text_ids: bool = False
    nights: list[Release] = field(default_factory=list)

    def encode(self, world: Any, model_id: str, **changes: Any) -> Release:
        """A staged release with native vectors; `changes` replace parts of the plan, `titles`, `plays` the rows.

        `carried` is the release in which all members last changed and whose transform places them, `active` those whose
        history is new.
        """
        carried, active = changes.pop("carried", None), changes.pop("active", np.empty(0, int))
        number = len(self.nights)
        titles = changes.pop("titles", np.arange(len(world.titles)))
        plays = changes.pop("plays", np.full(len(world.titles), 100))
        plan = {
            "release_id": f"2026010{number + 1}T000000Z-abcd",
            "plan_hash": "abcd",
            "lake": "lake",
            "as_of": WHEN,
            "created_at": WHEN,
            "model_id": model_id,
            "space_id": "1",
            "reference_release": self.nights[0].release_id if self.nights else None,
            "previous_release": self.nights[-1].release_id if self.nights else None,
            "shards": 3,
            "config": {},
        }
        plan = Plan(**(plan | changes))
        release = Release(self.uri, plan.release_id)
        release.storage.write("plan.json", plan.model_dump_json().encode())
        for shard in range(plan.shards):
            rows = np.arange(shard, len(world.members), plan.shards)
            since = (carried or release).release_id
            hashes = [f"h{row}-{number}" if row in active else f"h{row}" for row in rows.tolist()]
            table = self._members(rows, world.members[rows], since, hashes)
            if carried is not None:  # the encode job writes them in the space
                transform = AlignmentTransform.from_bytes(carried.storage.read("transform.safetensors"))
                table = table.set_column(
                    1, "embedding", to_column(transform.members(world.members[rows].astype(np.float32)))
                )
            folder = "work/native/members" if carried is None else "members"
            release.write_table(f"{folder}/part-{shard:05d}.parquet", table)
        for shard, rows in enumerate(np.array_split(np.arange(len(titles)), 2)):
            table = self._titles(titles[rows], plays[rows], world.titles[rows], release.release_id)
            release.write_table(f"work/native/titles/part-{shard:05d}.parquet", table)
        self.nights.append(release)
        return release

    def align(self, *arguments: Any, config: AlignmentConfig = CONFIG, **changes: Any) -> StageReport:
        """Encode and align a night, and note its report as the pipeline does."""
        from alignment import job

        release = self.encode(*arguments, **changes)
        report = release.run_stage("align", lambda: job.run(config, release))
        return StageReport.model_validate_json(report.model_dump_json())

    def _members(self, ids: np.ndarray, vectors: np.ndarray, release_id: str, hashes: list[str]) -> pa.Table:
        count = len(ids)
        schema = member_vector_schema(pa.string() if self.text_ids else pa.int64(), vectors.shape[1])
        when, texts = pa.array([WHEN] * count, TIMESTAMP_TYPE), pa.array(hashes, pa.string())
        release_ids = pa.array([release_id] * count)
        columns = [
            self._ids(ids),
            to_column(vectors),
            when,
            texts,
            pa.array([9] * count, pa.int32()),
            release_ids,
            when,
        ]
        return pa.table(columns, schema=schema)

    def _titles(self, ids: np.ndarray, plays: np.ndarray, vectors: np.ndarray, release_id: str) -> pa.Table:
        schema = title_vector_schema(pa.string() if self.text_ids else pa.int64(), vectors.shape[1])
        known = {
            "title_id": self._ids(ids),
            "embedding": to_column(vectors),
            "name": pa.array([f"Title {i}" for i in ids]),
            "plays": pa.array(plays, pa.int64()),
            "release_id": pa.array([release_id] * len(ids)),
            "encoded_at": pa.array([WHEN] * len(ids), TIMESTAMP_TYPE),
        }
        return pa.table([known.get(f.name, pa.nulls(len(ids), f.type)) for f in schema], schema=schema)

    def _ids(self, ids: np.ndarray) -> pa.Array:
        return pa.array([f"t{i}" for i in ids]) if self.text_ids else pa.array(ids, pa.int64())

    def vectors(self, side: str, night: int = -1) -> np.ndarray:
        """Published rows in the order of the planted world."""
        release = self.nights[night]
        table = release.storage.dataset(side).to_table().sort_by(f"{side[:-1]}_id")
        return to_matrix(table).astype(np.float64)


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(str(tmp_path))
