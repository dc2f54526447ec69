"""Publish trained nights as a platform does, and read them back as a downstream team does: through plain Feast."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from ten_nights import Matrix, Night

import alignment.job
from alignment import AlignmentConfig
from alignment.reference import to_column
from stores.publishing.publish import PublishConfig, publish
from stores.releases.release import Plan, Release, StageReport
from stores.releases.workspace import Workspace
from stores.schema import TIMESTAMP_TYPE, member_vector_schema, title_vector_schema

SPACE = "1"


@dataclass(frozen=True)
class Published:
    """A night in Feast: the moment it went live, and what alignment said of it."""

    live_at: datetime
    report: StageReport


def publish_night(workspace: Workspace, night: Night, number: int) -> Published:
    """Align a night's native vectors with the nightly job, seal the release and make it live.

    Raises RuntimeError where alignment does not place the night in the space.
    """
    release = _staged(workspace, night, number)
    report = release.run_stage("align", lambda: alignment.job.run(AlignmentConfig(), release))
    if number and report.metrics["outcome"] != "same_space":
        raise RuntimeError(f"night {number}: {report.metrics['outcome']}, {report.metrics['reasons']}")
    release.seal([], [report], {})
    publish(workspace, release, PublishConfig())
    return Published(datetime.fromisoformat((workspace.pointer() or {})["promoted_at"]), report)


def features(workspace: Workspace, entity: str, ids: Any, moment: datetime) -> Matrix:
    """Vectors (n, s) of entities as they were live at a moment: `get_historical_features`, in the order of `ids`."""
    import pandas as pd
    from feast import FeatureStore

    key, feature = f"{entity}_id", f"{entity}_embedding:embedding"
    asked = pd.DataFrame({key: ids, "event_timestamp": moment})
    store = FeatureStore(repo_path=f"{workspace.uri}/feast")
    found = store.get_historical_features(entity_df=asked, features=[feature]).to_df().set_index(key)
    return np.stack(found["embedding"].loc[ids].to_numpy()).astype(np.float32)


def _staged(workspace: Workspace, night: Night, number: int) -> Release:
    """A release as the encode stage leaves it."""
    now, live = datetime.now(UTC), workspace.pointer()
    opened = workspace.releases()[0].release_id if live else None
    plan = Plan(
        release_id=f"{night.moment:%Y%m%dT%H%M%SZ}-{number:04x}",
        plan_hash=f"{number:04x}",
        lake="lake",
        as_of=night.moment,
        created_at=now,
        model_id=f"night-{number}",
        space_id=SPACE,
        reference_release=opened,
        previous_release=live["release_id"] if live else None,
        shards=1,
        config={},
    )
    release = workspace.stage(plan, token=0)
    release.token = None
    histories, catalogue = night.questions.histories, night.questions.catalogue
    made = {"release_id": pa.array([release.release_id] * len(night.members)), "history_length": night.lengths}
    members = _table(histories, night.members, member_vector_schema(pa.int64(), night.members.shape[1]), made, now)
    made = {"release_id": pa.array([release.release_id] * len(night.titles))}
    titles = _table(catalogue, night.titles, title_vector_schema(pa.int64(), night.titles.shape[1]), made, now)
    release.write_table("work/native/members/part-00000.parquet", members)
    release.write_table("work/native/titles/part-00000.parquet", titles)
    return release


def _table(rows: pa.Table, vectors: Matrix, schema: pa.Schema, made: dict[str, Any], now: datetime) -> pa.Table:
    """Rows with their vectors in the columns of `schema`."""
    given = {**made, "embedding": to_column(vectors), "encoded_at": pa.array([now] * len(vectors), TIMESTAMP_TYPE)}
    columns = [given.get(field.name, rows[field.name] if field.name in rows.column_names else None) for field in schema]
    typed = [pa.chunked_array([pa.array(c)]) if isinstance(c, np.ndarray) else c for c in columns]
    return pa.table([c.cast(f.type) for c, f in zip(typed, schema, strict=True)], schema=schema)
