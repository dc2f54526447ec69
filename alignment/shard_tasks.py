"""What a worker does with one shard of vectors, native or placed; no Ray in here, and only small things travel."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from alignment.reference import to_column, to_matrix
from alignment.second_moments import Gram
from alignment.transform import AlignmentTransform, Side
from stores.errors import AlignmentError
from stores.releases.release import Release
from stores.schema import EMBEDDING, HISTORY_HASH, MEMBER_ID, NAME, TITLE_ID

NATIVE = "work/native"
NATIVE_ROOT = f"{NATIVE}/"
ACTIVITY_COLUMN = {"members": "history_length", "titles": "plays"}
ID_COLUMN = {"members": MEMBER_ID, "titles": TITLE_ID}


def min_activity(release: Release, side: Side, least: int, root: str = NATIVE_ROOT) -> int:
    """The activity that fits an entity: `least`, or 0 where too few have it to span the space twice over."""
    native = release.storage.dataset(f"{root}{side}")
    enough = 2 * native.schema.field(EMBEDDING).type.list_size
    return least if native.count_rows(filter=pc.field(ACTIVITY_COLUMN[side]) >= least) >= enough else 0


def gram_of_shard(release: Release, path: str, side: Side, least: int, popularity: float = 0.0) -> Gram:
    """The Gram of the established entities of one shard, titles by their popularity.

    Raises AlignmentError that names file and positions.
    """
    table = release.read_table(path, columns=[EMBEDDING, ACTIVITY_COLUMN[side]])
    try:
        weights = has_min_activity(table, side, least) * popularity_weights(table, side, popularity)
        return Gram.of(to_matrix(table), weights)
    except AlignmentError as error:
        raise AlignmentError(error.what, where=path, expected=error.expected, fix=error.fix) from error


def has_min_activity(table: pa.Table, side: Side, least: int) -> NDArray[np.bool_]:
    """Who has enough activity to be fitted, (n,)."""
    return np.asarray(pc.greater_equal(pc.fill_null(table[ACTIVITY_COLUMN[side]], 0), least).to_numpy(), dtype=bool)


def popularity_weights(table: pa.Table, side: Side, popularity: float) -> NDArray[np.float64]:
    """What each entity counts, (n,): plays to the power `popularity` for titles (at least 1), 1 for members."""
    if side == "members":
        return np.ones(table.num_rows)
    plays = pc.fill_null(table[ACTIVITY_COLUMN[side]], 0).to_numpy()
    return np.asarray(np.maximum(plays, 1).astype(np.float64) ** popularity)


def anchor_rows(release: Release, path: str, side: Side, least: int) -> pa.Table:
    """Id, vector, name and plays (of titles) or hash of the history of the established entities of one shard."""
    kept = [ID_COLUMN[side], EMBEDDING, *([NAME, ACTIVITY_COLUMN[side]] if side == "titles" else [HISTORY_HASH])]
    table = release.read_table(path, columns=list(dict.fromkeys([*kept, ACTIVITY_COLUMN[side]])))
    return table.filter(pa.array(has_min_activity(table, side, least))).select(kept)


def apply_to_shard(release: Release, path: str, side: Side, transform: AlignmentTransform) -> int:
    """Write the aligned shard (`aligned`); a finished one is left as it is. The number of its rows."""
    target = path.removeprefix(f"{NATIVE}/")
    done = release.completed_file(target)
    if done:
        return done.rows
    return release.write_table(target, align_table(release.read_table(path), side, transform)).rows


def align_table(table: pa.Table, side: Side, transform: AlignmentTransform) -> pa.Table:
    """Native rows of a shard in the space, every other column kept."""
    vectors = to_column(transform.apply(to_matrix(table), side))
    return table.set_column(table.schema.get_field_index(EMBEDDING), EMBEDDING, vectors)


def native_roots(release: Release) -> dict[Side, str]:
    """Below which root a night's members and titles are before they are placed.

    Where the transform was known before anything was encoded, members have been placed at once: theirs is "".
    """
    return {"members": NATIVE_ROOT if release.storage.files(f"{NATIVE_ROOT}members") else "", "titles": NATIVE_ROOT}
