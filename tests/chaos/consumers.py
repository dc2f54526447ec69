"""What teams downstream see: today's members with earlier titles, and rankers trained on the first night."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from stores.releases.release import Release
from tests.chaos.season import Season

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))

from mixed_release import Questions  # type: ignore[import-not-found]
from rankers import HeadRanker, PairRanker, Pairs  # type: ignore[import-not-found]
from ten_nights import Night  # type: ignore[import-not-found]

Vectors = dict[int, np.ndarray]
TENTHS = 10


def vectors(release: Release, kind: str) -> Vectors:
    """Published vectors of "member" or "title" by id."""
    table = (release.members() if kind == "member" else release.titles()).to_table().sort_by(f"{kind}_id")
    rows = table["embedding"].combine_chunks()
    matrix = rows.flatten().to_numpy().reshape(len(rows), -1)
    return dict(zip(table[f"{kind}_id"].to_pylist(), matrix, strict=True))


def histories(release: Release) -> dict[int, list[int]]:
    """Titles of each member, oldest first."""
    table = release.histories().to_table(columns=["member_id", "title_id"]).sort_by("member_id")
    return dict(zip(table["member_id"].to_pylist(), table["title_id"].to_pylist(), strict=True))


def hits(season: Season, night: int, today: Release, before: Release, k: int = 10) -> tuple[int, int, int]:
    """Questions, hits of today's members with today's titles, and with those of an earlier release.

    A question is a member's next play that is not in the history, among the titles that both releases have.
    """
    members, titles, earlier = vectors(today, "member"), vectors(today, "title"), vectors(before, "title")
    both = sorted(titles.keys() & earlier.keys())
    row = {title: place for place, title in enumerate(both)}
    matrices = [np.stack([side[title] for title in both]) for side in (titles, earlier)]
    seen, counts = histories(today), np.zeros(3, int)
    for member, plays in season.next_plays(night).items():
        known = {row[title] for title in seen.get(member, []) if title in row}
        new = [row[title] for title in plays if title in row and row[title] not in known]
        if new and member in members:
            found = [_among_the_best(matrix @ members[member], known, new[0], k) for matrix in matrices]
            counts += [1, *found]
    questions, own, mixed = counts.tolist()
    return questions, own, mixed


def _among_the_best(scores: np.ndarray, known: set[int], target: int, k: int) -> bool:
    scores[list(known)] = -np.inf
    return bool((scores > scores[target]).sum() < k)


def rankers_kept(first: Release, last: Release) -> dict[str, dict[str, float]]:
    """AUC on the last night of rankers trained on the first night's vectors ÷ of ones trained on the last night's.

    For "pairs" and "heads": what is `kept`, its 95 % interval (`low`, `high`; jackknife over tenths of the members
    that are ranked), and the AUC of the `refitted` one.
    """
    titles = sorted(vectors(first, "title").keys() & vectors(last, "title").keys())
    then, now = (_night(release, titles) for release in (first, last))
    who = np.intersect1d(then.member_ids, now.member_ids)
    pairs = Pairs.of(now, who)
    rankers = [PairRanker(Pairs.of(then, who), then.members, then.titles), PairRanker(pairs, now.members, now.titles)]
    heads = [HeadRanker(night, night.members, who) for night in (then, now)]

    def scores(left_out: np.ndarray) -> dict[str, list[float]]:
        some = replace(pairs, trains=pairs.trains | np.isin(now.member_ids[pairs.member], left_out))
        for head in heads:
            head.who = np.setdiff1d(who, left_out)
        return {
            "pairs": [one.score(some, now.members) for one in rankers],
            "heads": [one.score(now, now.members) for one in heads],
        }

    parts = np.array_split(np.random.default_rng(0).permutation(who), TENTHS)
    whole, without = scores(who[:0]), [scores(part) for part in parts]
    return {name: _kept(pair, [one[name] for one in without]) for name, pair in whole.items()}


def _kept(whole: list[float], without: list[list[float]]) -> dict[str, float]:
    """The ratio of a pair of scores with its jackknife interval (Tukey 1958)."""
    ratios, kept = np.array([old / new for old, new in without]), whole[0] / whole[1]
    reach = 1.96 * float(np.sqrt((len(ratios) - 1) * ratios.var()))
    return {"kept": kept, "low": kept - reach, "high": kept + reach, "refitted": whole[1]}


def _night(release: Release, titles: list[int]) -> Night:
    """A release as the rankers of the examples read one: the last token of every member is held out of `seen`."""
    row = {title: place for place, title in enumerate(titles)}
    tokens = {member: [row[one] for one in seen if one in row] for member, seen in histories(release).items()}
    tokens = {member: seen for member, seen in tokens.items() if len(seen) > 1}
    by_member, by_title = vectors(release, "member"), vectors(release, "title")
    plays = np.bincount(np.concatenate([seen[:-1] for seen in tokens.values()]), minlength=len(titles))
    questions = Questions(
        pa.table({"member_id": list(tokens)}),
        pa.table({"title_id": titles, "plays": plays}),
        [np.array(seen[:-1]) for seen in tokens.values()],
        np.array([seen[-1] for seen in tokens.values()]),
    )
    members = np.stack([by_member[member] for member in tokens])
    return Night(release.plan.as_of, questions, members, np.stack([by_title[title] for title in titles]))
