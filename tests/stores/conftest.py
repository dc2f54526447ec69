"""Tiny sealed releases, and plain Feast to look at what was published."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from stores.feast.repository import PublishConfig
from stores.releases.change_log import write_changes
from stores.releases.manifest import PreviousSpace, StageReport
from stores.releases.release import Plan, Release
from stores.releases.workspace import Workspace
from stores.schema import member_vector_schema, title_vector_schema

DIM = 8
NIGHT = datetime(2026, 7, 1, 2, tzinfo=UTC)


@dataclass
class Nights:
    """Makes releases of one workspace, in three shards of members and one of titles."""

    workspace: Workspace
    repository: str
    """The folder that a Feast user opens."""
    ids: Callable[[int], Any] = int
    made: list[Release] = field(default_factory=list)
    changed: dict[tuple[str, int, float], str] = field(default_factory=dict)

    def seal(
        self,
        members: dict[int, float],
        titles: dict[int, float],
        space_id: str = "1",
        held: bool = False,
        more: dict[str, pa.Table] | None = None,
        old: dict[str, PreviousSpace] | None = None,
        carried: Release | None = None,
    ) -> Release:
        """A release whose entity `i` has a vector made from the seed `members[i]`; `more` are other files.

        `old` says what older spaces serve; where that is the release's "own", its vectors there have other seeds.
        Members whose seed is that of the release `carried` are carried forward from there.
        """
        number = len(self.made)
        release_id = f"{NIGHT + timedelta(days=number):%Y%m%dT%H%M%SZ}-{number:04x}"
        plan = Plan(
            release_id=release_id, plan_hash=f"{number:04x}", lake="lake", as_of=NIGHT, created_at=NIGHT, model_id="m",
            space_id=space_id, reference_release=None, previous_release=None, shards=3, config={},
        )  # fmt: skip
        release = self.workspace.stage(plan, token=0)
        release.token = None
        self.write(release, members, titles, carried=carried)
        for path, table in (more or {}).items():
            release.write_table(path, table)
        for older, facts in (old or {}).items():
            if facts.release_id == "own":
                self.write(release, mapped(members), mapped(titles), f"spaces/{older}/")
        told = {name: one.model_dump() for name, one in (old or {}).items()}
        for facts in told.values():
            facts["release_id"] = release_id if facts["release_id"] == "own" else facts["release_id"]
        reports = [StageReport(name="previous_spaces", metrics={"spaces": told})] if old else []
        if carried:
            reports.append(StageReport(name="encode", metrics={"carried_from": carried.release_id}))
        release.seal(["too odd"] if held else [], reports, {})
        self.made.append(Release(self.workspace.uri, release_id))
        return self.made[-1]

    def write(
        self,
        release: Release,
        members: dict[int, float],
        titles: dict[int, float],
        root: str = "",
        carried: Release | None = None,
    ) -> None:
        for shard in range(3):
            part, name = {i: seed for i, seed in members.items() if i % 3 == shard}, f"part-{shard:05}.parquet"
            if part:
                table = self.member_table(part, release.release_id)
                shard = release.write_table(f"{root}members/{name}", table)
                if carried and carried.storage.exists(f"members/{name}"):
                    own = pc.equal(table["release_id"], release.release_id)
                    before, kept = carried.read_table(f"members/{name}")["member_id"], table.filter(pc.invert(own))
                    write_changes(release, shard, carried, before, kept["member_id"], table.filter(own))
        release.write_table(f"{root}titles/part-00000.parquet", self.title_table(titles, release.release_id))

    def member_table(self, seeds: dict[int, float], release_id: str) -> pa.Table:
        key = pa.array([self.ids(i) for i in seeds])
        schema = member_vector_schema(key.type, DIM)
        rows = len(seeds)
        fixed = {"event_time": [NIGHT] * rows, "history_hash": ["h"] * rows, "history_length": [1] * rows}
        made = {"member_id": key, "embedding": vectors(seeds), **fixed}
        return pa.table(
            {**made, "release_id": self.since("m", seeds, release_id), "encoded_at": [NIGHT] * rows}, schema=schema
        )

    def title_table(self, seeds: dict[int, float], release_id: str) -> pa.Table:
        key = pa.array([self.ids(i) for i in seeds])
        schema = title_vector_schema(key.type, DIM)
        rows = len(seeds)
        known = {"title_id": key, "embedding": vectors(seeds), "release_id": self.since("t", seeds, release_id)}
        known["encoded_at"] = [NIGHT] * rows
        return pa.table([known.get(f.name, pa.nulls(rows, f.type)) for f in schema], schema=schema)

    def since(self, kind: str, seeds: dict[int, float], release_id: str) -> list[str]:
        """The release in which each vector was made."""
        return [self.changed.setdefault((kind, i, seed), release_id) for i, seed in seeds.items()]


def mapped(seeds: dict[int, float]) -> dict[int, float]:
    return {i: seed + 100 for i, seed in seeds.items()}


def vectors(seeds: dict[int, float]) -> pa.Array:
    matrix = np.stack([vector(i, seed) for i, seed in seeds.items()])
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), DIM)


def vector(i: int, seed: float) -> np.ndarray:
    return np.random.default_rng([i, int(seed * 1000)]).standard_normal(DIM, dtype=np.float32)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def nights(request: pytest.FixtureRequest) -> Nights:
    """Releases with int64 ids, in a workspace on local disk and in one on an object store."""
    made: Nights = request.getfixturevalue(f"{request.param}_nights")
    return made


@pytest.fixture
def local_nights(tmp_path: Path) -> Nights:
    return Nights(Workspace.open(str(tmp_path / "workspace")), str(tmp_path / "workspace" / "feast"))


@pytest.fixture
def s3_nights(s3_bucket: str, tmp_path: Path) -> Nights:
    return Nights(Workspace.open(f"{s3_bucket}/{uuid.uuid4().hex}/ws"), str(tmp_path / "repository"))


@pytest.fixture
def config(tmp_path: Path) -> PublishConfig:
    """The defaults; `repository` counts for workspaces on an object store only."""
    return PublishConfig(repository=str(tmp_path / "repository"), registry_ttl_s=1)


@pytest.fixture
def text_nights(local_nights: Nights) -> Nights:
    """Releases with string ids, unusual ones among them."""
    local_nights.ids = lambda i: f"é/{i}" if i else ""
    return local_nights


class Look:
    """What plain Feast serves from a workspace, and what a release's Parquet holds."""

    def store(self, nights: Nights) -> Any:
        from feast import FeatureStore

        return FeatureStore(repo_path=nights.repository)

    def rows(self, nights: Nights, entity: str, ids: list[Any], view: str = "") -> dict[str, list[Any]]:
        """All features of entities, online."""
        view = view or f"{entity}_embedding"
        features = [f"{view}:{name}" for name in ("embedding", "release_id", "space_id", "encoded_at")]
        wanted = [{f"{entity}_id": i} for i in ids]
        served: dict[str, list[Any]] = self.store(nights).get_online_features(features, wanted).to_dict()
        return served

    def online(self, nights: Nights, entity: str, ids: list[Any], view: str = "") -> dict[Any, np.ndarray]:
        """The vectors that are served, by id."""
        found = zip(ids, self.rows(nights, entity, ids, view)["embedding"], strict=True)
        return {i: np.asarray(vector, np.float32) for i, vector in found if vector is not None}

    def published(self, release: Release, folder: str) -> dict[Any, np.ndarray]:
        """The vectors of a release's files, by id; `folder` may be one of an older space."""
        table = release.storage.dataset(folder).to_table()
        matrix = np.asarray(table.column("embedding").combine_chunks().flatten()).reshape(-1, DIM)
        return dict(zip(table.column(0).to_pylist(), matrix, strict=True))

    def same_bits(self, left: dict[Any, np.ndarray], right: dict[Any, np.ndarray]) -> bool:
        return {i: v.tobytes() for i, v in left.items()} == {i: v.tobytes() for i, v in right.items()}


@pytest.fixture
def look() -> Look:
    return Look()
