"""The catalogue: every accepted title with its metadata, its plays so far and its age as of the snapshot."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.quarantine import micros
from embeddings.snapshot import Snapshot
from stores.columns import TIME, TITLE_ID, catalogue_schema

MICROS_PER_DAY = 86_400_000_000


def catalogue(snapshot: Snapshot, plays: npt.NDArray[np.int64]) -> pa.Table:
    """Titles by id, `columns.catalogue_schema`; `plays` has one entry per title in that order.

    `age_days` = (as_of − launch_time) in whole days, so that two nights of one day make the same vectors: NaN where
    the launch is unknown, negative before it.
    """
    schema = catalogue_schema(snapshot.titles.id_types[TITLE_ID])
    titles = snapshot.catalogue()
    launch = titles["launch_time"]
    age = pc.divide(pc.cast(pc.subtract(micros(snapshot.moment.as_of), launch), pa.float64()), float(MICROS_PER_DAY))
    stored = {name: titles[name] for name in titles.column_names}
    stored |= {
        "launch_time": launch.cast(TIME),
        "plays": pa.array(plays),
        "age_days": pc.fill_null(pc.floor(age), np.nan),
    }
    return pa.table({field.name: stored[field.name].cast(field.type) for field in schema}, schema=schema)
