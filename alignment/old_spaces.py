"""Older spaces served from the new model: its vectors, as published in their own space, mapped onto each as well.

Whoever still reads an older space gets today's members and titles there, until `[publish] dual_until`, as long as
alignment does not refuse; then the space is frozen, and the release says why. The rotation is fitted onto the reference
of the space and judged by held-out anchors, as for the live space, but related vectors that changed too much for
one space are still served: a consumer who has not moved on is better off with them than with a frozen past.
"""

from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from alignment.config import AlignmentConfig
from alignment.job import TRANSFORM, gather, moment
from alignment.judging import judge, unless_refused
from alignment.placement import Placement, onto
from alignment.reference import PATH, matrix_of, vector_array
from alignment.shards import KEY, aligned, threshold
from alignment.transform import SIDES, AlignmentTransform, Side
from stores.columns import EMBEDDING, ENCODED_AT, MEMBER_ID, RELEASE_ID
from stores.errors import AlignmentError
from stores.features.delta import held_by
from stores.features.stamping import stamped_beside
from stores.features.views import MEMBERS, TITLES
from stores.journal import live
from stores.manifest import OldSpace
from stores.old_space import InOldSpace, frozen_at, opener_of, space_folder
from stores.ray_pool import map_tasks
from stores.release import Release, StageReport
from stores.workspace import Workspace

VIEWS = {"members": MEMBERS, "titles": TITLES}
TOLD = ("heldout_identification", "heldout_cosine_p50", "heldout_mixed_score_correlation")


def wanted(release: Release, until: date | None) -> bool:
    """Whether there is something to decide of older spaces: they are to be served, or were by the live release."""
    before = release.plan.previous_release
    return before is not None and (until is not None or bool(release.sibling(before).manifest.old_spaces))


def run(config: AlignmentConfig, release: Release, until: date | None) -> StageReport:
    """Map the release's vectors onto every older space that Feast serves, into `spaces/<space_id>/`.

    The report's `spaces` say what each serves while the release is live (`stores.manifest.OldSpace`), `judged` what
    was measured.
    """
    workspace, spaces, judged = Workspace.open(release.workspace_uri), {}, {}
    for space_id, held in live(workspace.storage).items():
        if int(space_id) < int(release.space_id):
            before = held_by(workspace, held.release_id, space_id)
            spaces[space_id], judged[space_id] = _follow(config, release, before, until)
    rows = sum(entry.rows for entry in release.entries() if entry.path.startswith(tuple(map(space_folder, spaces))))
    told: dict[str, Any] = {"spaces": {name: old.model_dump() for name, old in spaces.items()}, "judged": judged}
    return StageReport(name="old_spaces", rows=rows, metrics=told | {"release_id": release.release_id})


def _follow(
    config: AlignmentConfig, release: Release, before: Release, until: date | None
) -> tuple[OldSpace, dict[str, Any]]:
    """What a space that serves `before` is to serve from now on, and what was measured."""
    if until is None or release.plan.as_of.date() > until:
        return frozen_at(before, [f"[publish] dual_until is {until or 'not set'}"]), {}
    try:
        placement = _placement(config, release, before)
    except AlignmentError as error:
        return frozen_at(before, [str(error)]), {}
    verdict = placement.verdict
    facts = {"outcome": verdict.outcome, "reused": placement.reused, "reasons": verdict.reasons}
    facts |= {name: verdict.figures[name] for name in TOLD if name in verdict.figures}
    if verdict.outcome == "refused" or TOLD[0] not in verdict.figures:
        return frozen_at(before, verdict.reasons), facts
    _write(release, before, placement)
    frozen = frozen_at(before, [])
    return frozen.model_copy(update={"release_id": release.release_id}), facts


def _placement(config: AlignmentConfig, release: Release, before: Release) -> Placement:
    """The map onto the space and the verdict on it; the map of last night where nothing moved since."""
    least: dict[Side, int] = {
        "members": threshold(release, "members", config.min_history, ""),
        "titles": threshold(release, "titles", config.min_plays, ""),
    }
    last = release.sibling(frozen_at(before, []).last_release)
    opened = release.sibling(opener_of(before))
    evidence = gather(config, release, least, last.read_table(PATH), opened, {"members": "", "titles": ""})
    if kept := _kept(release, before):
        return Placement(kept, unless_refused(judge(kept, evidence.split()[1], config)), reused=True)
    gram_m, gram_t = (moment(config, release, side, least[side], "") for side in SIDES)
    return onto(gram_m, gram_t, *evidence.split(), config)


def _kept(release: Release, before: Release) -> AlignmentTransform | None:
    """The map of the live release, where the space serves that and its own space is still reached by the same maps."""
    if not isinstance(before, InOldSpace) or before.release_id != release.plan.previous_release:
        return None
    same = before.whole.storage.read(TRANSFORM) == release.storage.read(TRANSFORM)
    if before.whole.space_id != release.space_id or not same:
        return None
    return AlignmentTransform.from_bytes(before.storage.read(TRANSFORM), where=repr(before))


def _write(release: Release, before: Release, placement: Placement) -> None:
    place = space_folder(before.space_id)
    release.write_bytes(f"{place}/{TRANSFORM}", placement.transform.to_bytes())
    for side in SIDES:
        carried = placement.reused and side == "members"
        paths = release.storage.files(side)
        map_tasks(map_shard, release, paths, side, placement.transform, before, carried)


def map_shard(
    release: Release, path: str, side: Side, transform: AlignmentTransform, before: Release, carried: bool
) -> int:
    """Write one shard in the space of `before`; the number of its rows.

    `carried`: rows that another release encoded are those of `before`, bit for bit.
    """
    target = f"{space_folder(before.space_id)}/{path}"
    if done := release.finished(target):
        return done.rows
    there = any(entry.path == path for entry in before.manifest.files)
    earlier = before.read_table(path, [KEY[side], EMBEDDING, RELEASE_ID, ENCODED_AT]) if there else None
    table = release.read_table(path, [KEY[side], EMBEDDING, RELEASE_ID])
    mapped = aligned(table, side, transform)
    if carried and earlier is not None:
        mapped = _carried(mapped, earlier, release.release_id)
    return release.write_table(target, stamped_beside(earlier, VIEWS[side], release, mapped)).rows


def _carried(mapped: pa.Table, earlier: pa.Table, release_id: str) -> pa.Table:
    """The members of a shard, those that another release than `release_id` encoded as they are in `earlier`."""
    new = pc.equal(mapped[RELEASE_ID], release_id)
    found = pc.index_in(mapped[MEMBER_ID], value_set=earlier[MEMBER_ID].combine_chunks())
    vectors = matrix_of(mapped).copy()
    old = pc.invert(new).to_numpy()
    vectors[old] = matrix_of(earlier)[found.filter(pc.invert(new)).to_numpy()]
    return mapped.set_column(mapped.schema.get_field_index(EMBEDDING), EMBEDDING, vector_array(vectors))
