"""The alignment of one night as a Ray job: moments per shard, one small fit, one pass that applies it.

Results of shards are merged in the order of their paths, so bits do not depend on scheduling.
"""

from dataclasses import replace
from functools import reduce
from operator import add

import pyarrow as pa

from alignment.account import account
from alignment.config import AlignmentConfig
from alignment.evidence import Evidence, evidence_of
from alignment.fitting import fit
from alignment.gram import Gram
from alignment.judging import Verdict, judge, unless_refused
from alignment.placement import Placement, place
from alignment.reference import PATH, grown, matrix_of, reference_of
from alignment.sampling import shards_for
from alignment.shards import NATIVE, ROOT, apply_to_shard, established_rows, gram_of_shard, roots_of, threshold
from alignment.spaces import kept_transform, next_space
from alignment.transform import SIDES, AlignmentTransform, Side
from stores.columns import TITLE_ID
from stores.ray_pool import map_tasks
from stores.release import Release, StageReport

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
    roots = roots_of(release)
    least: dict[Side, int] = {
        "members": threshold(release, "members", config.min_history, roots["members"]),
        "titles": threshold(release, "titles", config.min_plays),
    }
    evidence = _evidence(config, release, least, roots)
    placement = _placement(config, release, evidence, least)
    release.write_bytes(TRANSFORM, placement.transform.to_bytes())
    rows = apply(release, placement.transform).rows
    _write_reference(release, least["titles"], joins=placement.aligned)
    space_id = release.plan.space_id if placement.aligned or evidence is None else next_space(release)
    return StageReport(name="align", rows=rows, metrics=account(release, placement, evidence, config, space_id))


def apply(release: Release, transform: AlignmentTransform) -> StageReport:
    """Write `members/` and `titles/` by a transform that is known, but for members that were encoded into the space."""
    for side in SIDES:
        map_tasks(apply_to_shard, release, release.storage.files(f"{NATIVE}/{side}"), side, transform)
    rows = sum(entry.rows for entry in release.entries() if entry.path.startswith(("members/", "titles/")))
    return StageReport(name="align", rows=rows, metrics={"mode": transform.mode, "space_id": release.plan.space_id})


def _evidence(
    config: AlignmentConfig, release: Release, least: dict[Side, int], roots: dict[Side, str]
) -> Evidence | None:
    """Anchors of the night: titles of the reference table, members of the release that opened the space.

    None on the first night. Members that were encoded into the space are turned back.
    """
    reference = reference_of(release)
    if reference is None or release.plan.reference_release is None:
        return None
    found = gather(config, release, least, reference, release.sibling(release.plan.reference_release), roots)
    kept = kept_transform(release, config)
    if kept is None or roots["members"] == ROOT:
        return found
    return replace(found, member_new=kept.inverse().members(found.member_new))


def gather(
    config: AlignmentConfig,
    release: Release,
    least: dict[Side, int],
    reference: pa.Table,
    opened: Release,
    roots: dict[Side, str],
) -> Evidence:
    """Anchors between the vectors below the `roots` of a release, and a reference table and the members of `opened`."""
    titles = _established(release, "titles", release.storage.files(f"{roots['titles']}titles"), least["titles"])
    root = roots["members"]
    rows = release.storage.dataset(f"{root}members").count_rows()
    sampled = shards_for(release.storage.files(f"{root}members"), rows, config.member_anchors)
    members = _established(release, "members", sampled, least["members"]).slice(0, config.member_anchors)
    same = [path.removeprefix(root) for path in sampled]
    theirs = same if opened.plan.shards == release.plan.shards else opened.storage.files("members")
    old_members = _established(opened, "members", theirs, least["members"])
    return evidence_of(titles, reference, members, old_members, config.popularity)


def _placement(
    config: AlignmentConfig, release: Release, evidence: Evidence | None, least: dict[Side, int]
) -> Placement:
    """The transform of the night and the verdict on it."""
    kept = kept_transform(release, config)
    if kept and evidence:
        return Placement(kept, unless_refused(judge(kept, evidence.split()[1], config)), reused=True)
    gram_m, gram_t = (moment(config, release, side, least[side]) for side in SIDES)
    if evidence is None:
        placement = Placement(fit(gram_m, gram_t, None, config), Verdict("new_space"))
    else:
        placement = place(gram_m, gram_t, *evidence.split(), config)
    return replace(placement, transform=replace(placement.transform, model_id=release.plan.model_id))


def moment(config: AlignmentConfig, release: Release, side: Side, least: int, root: str = ROOT) -> Gram:
    """The second moment of a side; of members from as many shards as it takes, so that its cost is bounded."""
    paths = release.storage.files(f"{root}{side}")
    if side == "members":
        rows = release.storage.dataset(f"{root}members").count_rows()
        paths = shards_for(paths, rows, config.moment_members)
    grams: list[Gram] = map_tasks(gram_of_shard, release, paths, side, least, config.popularity)
    return reduce(add, grams)


def _write_reference(release: Release, least: int, joins: bool) -> None:
    """The reference table as of this release; it begins anew where the release does not join the planned space."""
    titles = _established(release, "titles", release.storage.files("titles"), least)
    reference = reference_of(release) if joins else None
    release.write_table(PATH, grown(reference, titles[TITLE_ID], matrix_of(titles), release.release_id))


def _established(release: Release, side: Side, paths: list[str], least: int) -> pa.Table:
    """Ids and vectors of the entities that may be anchors, from some shards."""
    return pa.concat_tables(map_tasks(established_rows, release, paths, side, least)).combine_chunks()
