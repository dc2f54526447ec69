"""A probe of the night's encoder, before any shard: its width, and whether the same question has the same answer.

Vectors are carried forward from night to night, and shards are encoded by many processes; both take for granted that a
row's vector follows from the row alone. A small sample is encoded twice, the second time a third of it in another
order, and of a night that carries members forward some of those are encoded again. Answers that differ by more than
rounding are noted; those that are far apart are refused.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from embeddings.encode.bisection import encode_rows
from embeddings.encode.encoder import UNUSABLE_OUTPUT, CatalogueReader, Encoder, Vectors
from stores.errors import EncoderError, MismatchError
from stores.releases.release import Release
from stores.settings import Settings

PROBE_ROWS = 64
"""Members, titles, and carried members that are encoded."""
NOTED, REFUSED = 1e-5, 1e-2
"""Distance of two answers as a share of their length, the largest of the sample. Rounding stays below the first; the
second is about what `encode.min_cosine` lets two precisions differ by."""


class Probe(Settings):
    """What was found: the width, the largest relative distances of answers, and what a person should know.

    `again` is that of two answers in one process, `carried` that of tonight's and the live release's vector of
    members whose history did not change; None where nothing could be compared.
    """

    dim: int
    again: float | None = None
    carried: float | None = None
    notes: tuple[str, ...] = ()


def probe(encoder: Encoder, histories: pa.Table, catalogue: pa.Table) -> Probe:
    """Encode a sample of members and of titles twice.

    Raises EncoderError where what is returned has another shape than (rows, dim) or another type than numbers, or where
    two answers are far apart; MismatchError where the encoder says that the catalogue is not what it was trained with.
    """
    notes = encoder.catalogue_notes(catalogue) if isinstance(encoder, CatalogueReader) else []
    sides = [("encode_titles", encoder.encode_titles, catalogue), ("encode_members", encoder.encode_members, histories)]
    found = {name: _encode_twice(name, encode, probe_sample(rows), encoder.dim) for name, encode, rows in sides}
    for name, apart in found.items():
        if apart is not None and apart > NOTED:
            notes.append(f"{name} gives different vectors when asked twice: up to {apart:.2%} of their length apart")
    known = [apart for apart in found.values() if apart is not None]
    return Probe(dim=encoder.dim, again=max(known, default=None), notes=tuple(notes))


def require_width_of_live(encoder: Encoder, release: Release) -> None:
    """Raise MismatchError where the live release is of the same model and its vectors were of another width."""
    before = release.plan.previous_release
    live = release.other(before) if before else None
    report = live.stage_report("encode") if live and live.manifest.model_id == release.plan.model_id else None
    width = report.metrics.get("dim") if report else None
    if width not in (None, encoder.dim):
        raise MismatchError(
            f"the encoder's vectors have width {encoder.dim}; in release {before}, of the same model_id "
            f"{encoder.model_id!r}, they had width {width}",
            where="encode",
            fix="give a changed model another model_id: then everybody is encoded, aligned and compared anew",
        )


def with_carried(found: Probe, tonight: Vectors, before: Vectors, release_id: str) -> Probe:
    """The probe with what tonight's vectors of carried members and those of the live release, (n, d) each, differ by.

    Raises MismatchError where they are far apart: the model is another one behind the same `model_id`.
    """
    apart = distance(before, tonight)
    if apart is None:
        return found
    if apart > REFUSED:
        raise MismatchError(
            f"members whose history did not change have other vectors than in release {release_id}: up to "
            f"{apart:.2%} of their length apart, though the model_id is the same",
            where="encode_members",
            expected="the same vectors: an incremental night keeps those of all members without a new event",
            fix="give a changed model another model_id, or encode everybody: samespace nightly --full",
        )
    note = f"carried members are up to {apart:.2%} of their length from what the model gives tonight"
    return found.model_copy(update={"carried": apart, "notes": (*found.notes, *([note] if apart > NOTED else []))})


def probe_sample(rows: pa.Table) -> pa.Table:
    """At most SAMPLE rows, evenly over the table."""
    if not rows.num_rows:
        return rows
    return rows.take(np.unique(np.linspace(0, rows.num_rows - 1, PROBE_ROWS).astype(np.int64)))


def distance(x: Vectors, y: Vectors) -> float | None:
    """max ‖xᵢ − yᵢ‖ / ‖xᵢ‖ over the rows that are finite in both, (n, d) each; None where there is no such row."""
    sound = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    if not sound.any():
        return None
    x, y = x[sound].astype(np.float64), y[sound].astype(np.float64)
    lengths = np.maximum(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))
    return float((np.linalg.norm(x - y, axis=1) / np.maximum(lengths, np.finfo(np.float32).tiny)).max())


def _encode_twice(name: str, encode: Callable[[pa.Table], Any], rows: pa.Table, dim: int) -> float | None:
    """The largest relative distance of two answers about the same rows."""
    once = _answer(name, encode, rows, dim)
    some: npt.NDArray[np.int64] = np.arange(0, rows.num_rows, 3)[::-1]
    apart = distance(once[some], _answer(name, encode, rows.take(some), dim))
    if apart is not None and apart > REFUSED:
        raise EncoderError(
            f"{name} gives different vectors when the same rows are asked again: up to {apart:.2%} of their length "
            "apart",
            where=name,
            expected="a vector that follows from its row alone, whatever else is in the table",
            fix="switch off dropout (model.eval()), draw nothing at random, keep no state between calls, "
            "and let no row depend on the others",
        )
    return apart


def _answer(name: str, encode: Callable[[pa.Table], Any], rows: pa.Table, dim: int) -> Vectors:
    """(n, dim) vectors, NaN where the model fails. Raises EncoderError where no output has the shape or type."""
    vectors, refused = encode_rows(encode, rows, dim)
    if refused and len(refused) == rows.num_rows and all(UNUSABLE_OUTPUT in reason for _, reason in refused):
        raise EncoderError(
            f"{name}: {refused[0][1]}, for each of {rows.num_rows} rows that were tried",
            where=name,
            expected=f"(rows, {dim}) numbers: dim is {dim}, for members and titles alike",
            fix="return one row of dim numbers for each row of the table",
        )
    vectors[[position for position, _ in refused]] = np.nan
    return vectors
