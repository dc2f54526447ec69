"""Older spaces served from the new model: its vectors, as published in their own space, mapped onto each as well.

Whoever still reads an older space gets today's members and titles there, until `[publish] previous_spaces_until`, as
long as alignment does not refuse; then the space is frozen, and the release says why. The rotation is fitted onto the
reference of the space and judged by held-out anchors, as for the live space, but related vectors that changed too much
for one space are still served: a consumer who has not moved on is better off with them than with a frozen past.
"""

from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from alignment.acceptance import FitResult, fit_onto, judge, keep_space_unless_refused
from alignment.config import AlignmentConfig
from alignment.job import TRANSFORM, gather_anchors, second_moment
from alignment.reference import REFERENCE_FILE, to_column, to_matrix
from alignment.shard_tasks import ID_COLUMN, align_table, min_activity
from alignment.transform import SIDES, AlignmentTransform, Side
from stores.errors import AlignmentError
from stores.feast.feature_views import MEMBERS, TITLES
from stores.feast.release_diff import release_in_views, with_versions_beside
from stores.publishing.journal import published_state
from stores.ray_pool import map_tasks
from stores.releases.manifest import PreviousSpace
from stores.releases.previous_space import PreviousSpaceRelease, freeze_reasons, opener_of, space_folder
from stores.releases.release import Release, StageReport
from stores.releases.workspace import Workspace
from stores.schema import EMBEDDING, ENCODED_AT, MEMBER_ID, RELEASE_ID

VIEWS = {"members": MEMBERS, "titles": TITLES}
REPORTED_METRICS = ("heldout_identification", "heldout_cosine_p50", "heldout_mixed_score_correlation")


def is_needed(release: Release, until: date | None) -> bool:
    """Whether there is something to decide of older spaces: they are to be served, or were by the live release."""
    before = release.plan.previous_release
    return before is not None and (until is not None or bool(release.other(before).manifest.previous_spaces))


def run(config: AlignmentConfig, release: Release, until: date | None) -> StageReport:
    """Map the release's vectors onto every older space that Feast serves, into `spaces/<space_id>/`.

    The report's `spaces` say what each serves while the release is live (`stores.releases.manifest.PreviousSpace`),
    `judged` what was measured.
    """
    workspace, spaces, judged = Workspace.open(release.workspace_uri), {}, {}
    for space_id, held in published_state(workspace.storage).items():
        if int(space_id) < int(release.space_id):
            before = release_in_views(workspace, held.release_id, space_id)
            spaces[space_id], judged[space_id] = _map_space(config, release, before, until)
    rows = sum(
        entry.rows for entry in release.completed_files() if entry.path.startswith(tuple(map(space_folder, spaces)))
    )
    told: dict[str, Any] = {"spaces": {name: old.model_dump() for name, old in spaces.items()}, "judged": judged}
    return StageReport(name="previous_spaces", rows=rows, metrics=told | {"release_id": release.release_id})


def _map_space(
    config: AlignmentConfig, release: Release, before: Release, until: date | None
) -> tuple[PreviousSpace, dict[str, Any]]:
    """What a space that serves `before` is to serve from now on, and what was measured."""
    if until is None or release.plan.as_of.date() > until:
        return freeze_reasons(before, [f"[publish] previous_spaces_until is {until or 'not set'}"]), {}
    try:
        placement = _fit_or_reuse(config, release, before)
    except AlignmentError as error:
        return freeze_reasons(before, [str(error)]), {}
    verdict = placement.verdict
    facts = {"outcome": verdict.outcome, "reused": placement.reused, "reasons": verdict.reasons}
    facts |= {name: verdict.metrics[name] for name in REPORTED_METRICS if name in verdict.metrics}
    if verdict.outcome == "refused" or REPORTED_METRICS[0] not in verdict.metrics:
        return freeze_reasons(before, verdict.reasons), facts
    _write(release, before, placement)
    frozen = freeze_reasons(before, [])
    return frozen.model_copy(update={"release_id": release.release_id}), facts


def _fit_or_reuse(config: AlignmentConfig, release: Release, before: Release) -> FitResult:
    """The map onto the space and the verdict on it; the map of last night where nothing moved since."""
    least: dict[Side, int] = {
        "members": min_activity(release, "members", config.min_history, ""),
        "titles": min_activity(release, "titles", config.min_plays, ""),
    }
    last = release.other(freeze_reasons(before, []).last_release)
    opened = release.other(opener_of(before))
    evidence = gather_anchors(
        config, release, least, last.read_table(REFERENCE_FILE), opened, {"members": "", "titles": ""}
    )
    if kept := _reusable_map(release, before):
        return FitResult(kept, keep_space_unless_refused(judge(kept, evidence.split()[1], config)), reused=True)
    gram_m, gram_t = (second_moment(config, release, side, least[side], "") for side in SIDES)
    return fit_onto(gram_m, gram_t, *evidence.split(), config)


def _reusable_map(release: Release, before: Release) -> AlignmentTransform | None:
    """The map of the live release, where the space serves that and its own space is still reached by the same maps."""
    if not isinstance(before, PreviousSpaceRelease) or before.release_id != release.plan.previous_release:
        return None
    same = before.whole.storage.read(TRANSFORM) == release.storage.read(TRANSFORM)
    if before.whole.space_id != release.space_id or not same:
        return None
    return AlignmentTransform.from_bytes(before.storage.read(TRANSFORM), where=repr(before))


def _write(release: Release, before: Release, placement: FitResult) -> None:
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
    if done := release.completed_file(target):
        return done.rows
    there = any(entry.path == path for entry in before.manifest.files)
    earlier = before.read_table(path, [ID_COLUMN[side], EMBEDDING, RELEASE_ID, ENCODED_AT]) if there else None
    table = release.read_table(path, [ID_COLUMN[side], EMBEDDING, RELEASE_ID])
    mapped = align_table(table, side, transform)
    if carried and earlier is not None:
        mapped = _reuse_unchanged(mapped, earlier, release.release_id)
    return release.write_table(target, with_versions_beside(earlier, VIEWS[side], release, mapped)).rows


def _reuse_unchanged(mapped: pa.Table, earlier: pa.Table, release_id: str) -> pa.Table:
    """The members of a shard, those that another release than `release_id` encoded as they are in `earlier`."""
    new = pc.equal(mapped[RELEASE_ID], release_id)
    found = pc.index_in(mapped[MEMBER_ID], value_set=earlier[MEMBER_ID].combine_chunks())
    vectors = to_matrix(mapped).copy()
    old = pc.invert(new).to_numpy()
    vectors[old] = to_matrix(earlier)[found.filter(pc.invert(new)).to_numpy()]
    return mapped.set_column(mapped.schema.get_field_index(EMBEDDING), EMBEDDING, to_column(vectors))
