"""`samespace diff A B`: what changed between two releases."""

from argparse import ArgumentParser, Namespace
from typing import Any

from pipeline.arguments import CommandResult, config_of, format_table
from stores.releases.workspace import Workspace
from stores.terminal import one_line

DIMENSIONS, TITLES = 8, 10

EXAMPLES = ("samespace diff 20260720T020000Z-11aa 20260721T020000Z-3f9a --workspace ws",)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("before", help="a release, for example the older one")
    parser.add_argument("after", help="the release to compare it with")


def run(args: Namespace) -> CommandResult:
    """Compare two sealed releases, held ones too. Raises NotFoundError for one that is not there."""
    from validation.release_diff import diff_releases

    config = config_of(args)
    workspace = Workspace.open(config.workspace)
    before, after = workspace.release(args.before), workspace.release(args.after)
    facts = diff_releases(before, after, config.gate.drift)
    return CommandResult(facts, _text(facts))


def _text(facts: dict[str, Any]) -> str:
    space = "one space" if facts["same_space"] else "two spaces: places cannot be compared, neighbours can"
    model = "one model" if facts["same_model"] else "two models"
    parts = [f"{facts['before']} -> {facts['after']}: {space}, {model}"]
    parts.append(format_table([{"": name, **facts[name]} for name in ("members", "titles")]))
    if "common_titles" in facts:
        parts += [_places(facts), *_dimensions(facts.get("dimensions") or []), _moved(facts["moved"][:TITLES])]
    return "\n\n".join(parts)


def _places(facts: dict[str, Any]) -> str:
    kept = f"{max(0.0, facts['neighbours_beyond_chance']):.0%} of their nearest neighbours"
    lines = [f"{facts['common_titles']:,} common titles keep {kept} (Jaccard {facts['neighbour_jaccard']:.3f})"]
    if facts["same_space"]:
        half = f"half of them have a cosine to their old place above {facts['title_cosine_p50']:.3f}"
        lines.append(f"{facts['moved_share']:.1%} moved; {half}")
    if "member_cosine_p50" in facts:
        lines.append(f"half of the members have one above {facts['member_cosine_p50']:.3f}")
    return "\n".join(lines)


def _dimensions(dimensions: list[dict[str, Any]]) -> list[str]:
    """The dimensions with most energy, as text; nothing where there is nothing to compare."""
    if not dimensions:
        return []
    largest = sorted(dimensions, key=lambda entry: -entry["energy_after"])[:DIMENSIONS]
    rest = f"\n({len(dimensions) - len(largest)} more with --json)" if len(dimensions) > len(largest) else ""
    return [f"dimensions with most energy\n{format_table(largest)}{rest}"]


def _moved(titles: list[dict[str, Any]]) -> str:
    lines = ["titles that moved most"]
    for title in titles:
        cosine = "" if title["cosine"] is None else f"  (cosine {title['cosine']:.2f})"
        lines.append(f"  {one_line(str(title['name']))}{cosine}")
        near = {word: " · ".join(map(one_line, title[f"{word}_near"])) for word in ("was", "is")}
        lines += [f"    {word} near  {names}" for word, names in near.items()]
    return "\n".join(lines)
