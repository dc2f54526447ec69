"""Run the alignment of one night on Ray: moments per shard, one small fit, one pass that applies it.

Results of shards are merged in the order of their paths, so bits do not depend on scheduling.
"""

from dataclasses import replace
from functools import reduce
from operator import add

import pyarrow as pa

from alignment.acceptance import AcceptanceVerdict, FitResult, fit_and_validate, judge, keep_space_unless_refused
from alignment.anchor_matching import MatchedAnchors, match_anchors
from alignment.config import AlignmentConfig
from alignment.fitting import fit
from alignment.reference import REFERENCE_FILE, add_titles, reference_of, sample_shards, to_matrix
from alignment.second_moments import Gram
from alignment.shard_tasks import (
    NATIVE,
    NATIVE_ROOT,
    anchor_rows,
    apply_to_shard,
    gram_of_shard,
    min_activity,
    native_roots,
)
from alignment.stage_report import build_stage_report
from alignment.transform import SIDES, AlignmentTransform, Side
from stores.ray_pool import map_tasks
from stores.releases.release import Release, StageReport
from stores.releases.workspace import Workspace
from stores.schema import TITLE_ID

TRANSFORM = "transform.safetensors"


def run(config: AlignmentConfig, release: Release) -> StageReport:
    """Map the native vectors of a night onto the planned space, or into one of their own.

    Members may have been encoded into the space; they stay as they are.
    Writes `transform.safetensors`, `members/`, `titles/` and `reference.parquet`. The report's `outcome` is
    `same_space`, `new_space` or `refused`; in the last two the vectors are canonical and unaligned and `space_id` is
    one that no release had, but on the first night, which opens the planned space. The model of the last night
    keeps its transform, bit for bit (`reused`), and its space, but where the titles or members are not who they were
    (`refused`). Raises AlignmentError where vectors are not finite or all zero.
    """
    roots = native_roots(release)
    least: dict[Side, int] = {
        "members": min_activity(release, "members", config.min_history, roots["members"]),
        "titles": min_activity(release, "titles", config.min_plays),
    }
    evidence = _gather_anchors(config, release, least, roots)
    placement = _fit_and_validate(config, release, evidence, least)
    release.write_bytes(TRANSFORM, placement.transform.to_bytes())
    rows = apply(release, placement.transform).rows
    _write_reference(release, least["titles"], joins=placement.in_planned_space)
    space_id = release.plan.space_id if placement.in_planned_space or evidence is None else next_space_id(release)
    return StageReport(
        name="align", rows=rows, metrics=build_stage_report(release, placement, evidence, config, space_id)
    )


def apply(release: Release, transform: AlignmentTransform) -> StageReport:
    """Write `members/` and `titles/` by a transform that is known, but for members that were encoded into the space."""
    for side in SIDES:
        map_tasks(apply_to_shard, release, release.storage.files(f"{NATIVE}/{side}"), side, transform)
    rows = sum(entry.rows for entry in release.completed_files() if entry.path.startswith(("members/", "titles/")))
    return StageReport(name="align", rows=rows, metrics={"mode": transform.mode, "space_id": release.plan.space_id})


def _gather_anchors(
    config: AlignmentConfig, release: Release, least: dict[Side, int], roots: dict[Side, str]
) -> MatchedAnchors | None:
    """Anchors of the night: titles of the reference table, members of the release that opened the space.

    None on the first night. Members that were encoded into the space are turned back.
    """
    reference = reference_of(release)
    if reference is None or release.plan.reference_release is None:
        return None
    found = gather_anchors(config, release, least, reference, release.other(release.plan.reference_release), roots)
    kept = reusable_transform(release, config)
    if kept is None or roots["members"] == NATIVE_ROOT:
        return found
    return replace(found, member_new=kept.inverse().members(found.member_new))


def gather_anchors(
    config: AlignmentConfig,
    release: Release,
    least: dict[Side, int],
    reference: pa.Table,
    opened: Release,
    roots: dict[Side, str],
) -> MatchedAnchors:
    """Anchors between the vectors below the `roots` of a release, and a reference table and the members of `opened`."""
    titles = _anchor_candidates(release, "titles", release.storage.files(f"{roots['titles']}titles"), least["titles"])
    root = roots["members"]
    rows = release.storage.dataset(f"{root}members").count_rows()
    sampled = sample_shards(release.storage.files(f"{root}members"), rows, config.member_anchors)
    members = _anchor_candidates(release, "members", sampled, least["members"]).slice(0, config.member_anchors)
    same = [path.removeprefix(root) for path in sampled]
    theirs = same if opened.plan.shards == release.plan.shards else opened.storage.files("members")
    old_members = _anchor_candidates(opened, "members", theirs, least["members"])
    return match_anchors(titles, reference, members, old_members, config.popularity)


def _fit_and_validate(
    config: AlignmentConfig, release: Release, evidence: MatchedAnchors | None, least: dict[Side, int]
) -> FitResult:
    """The transform of the night and the verdict on it."""
    kept = reusable_transform(release, config)
    if kept and evidence:
        return FitResult(kept, keep_space_unless_refused(judge(kept, evidence.split()[1], config)), reused=True)
    gram_m, gram_t = (second_moment(config, release, side, least[side]) for side in SIDES)
    if evidence is None:
        placement = FitResult(fit(gram_m, gram_t, None, config), AcceptanceVerdict("new_space"))
    else:
        placement = fit_and_validate(gram_m, gram_t, *evidence.split(), config)
    return replace(placement, transform=replace(placement.transform, model_id=release.plan.model_id))


def second_moment(config: AlignmentConfig, release: Release, side: Side, least: int, root: str = NATIVE_ROOT) -> Gram:
    """The second moment of a side; of members from as many shards as it takes, so that its cost is bounded."""
    paths = release.storage.files(f"{root}{side}")
    if side == "members":
        rows = release.storage.dataset(f"{root}members").count_rows()
        paths = sample_shards(paths, rows, config.moment_members)
    grams: list[Gram] = map_tasks(gram_of_shard, release, paths, side, least, config.popularity)
    return reduce(add, grams)


def _write_reference(release: Release, least: int, joins: bool) -> None:
    """The reference table as of this release; it begins anew where the release does not join the planned space."""
    titles = _anchor_candidates(release, "titles", release.storage.files("titles"), least)
    reference = reference_of(release) if joins else None
    release.write_table(REFERENCE_FILE, add_titles(reference, titles[TITLE_ID], to_matrix(titles), release.release_id))


def _anchor_candidates(release: Release, side: Side, paths: list[str], least: int) -> pa.Table:
    """Ids and vectors of the entities that may be anchors, from some shards."""
    return pa.concat_tables(map_tasks(anchor_rows, release, paths, side, least)).combine_chunks()


def reusable_transform(release: Release, config: AlignmentConfig) -> AlignmentTransform | None:
    """The live release's transform where it is of the same model, in the planned space and of the same mode."""
    plan = release.plan
    if plan.previous_release is None:
        return None
    live = release.other(plan.previous_release)
    if live.plan.model_id != plan.model_id or live.space_id != plan.space_id:
        return None
    transform = AlignmentTransform.from_bytes(live.storage.read("transform.safetensors"), where=repr(live))
    return transform if transform.mode == config.mode else None


def next_space_id(release: Release) -> str:
    """A decimal number above that of every earlier space, held releases included: none is used twice."""
    sealed = Workspace.open(release.workspace_uri).releases()
    used = [int(other.space_id) for other in sealed if other.release_id < release.release_id]
    return str(1 + max([int(release.plan.space_id), *used]))
