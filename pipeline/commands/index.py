"""`samespace index`: how the live release is searched, and with `--explain` what was tried and why this was chosen."""

from argparse import ArgumentParser, Namespace
from typing import Any

from pipeline.arguments import CommandResult, format_table, workspace_of

EXAMPLES = (
    "samespace index --workspace ws            # the type of each index and the reason",
    "samespace index --explain --workspace ws  # and every trial, with its recall and its speed",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--explain", action="store_true", help="show every trial and the reason of the choice")


def run(args: Namespace) -> CommandResult:
    """Read the card of the live release's indexes; no index is opened."""
    from retrieval.explain import explain_choice, read_metadata, slice_rows, trial_rows

    release = workspace_of(args).current()
    card = read_metadata(release)
    facts: dict[str, Any] = {"release_id": release.release_id, "indexes": {}}
    lines: list[str] = []
    for name, index in card.indexes.items():
        facts["indexes"][name] = {**index.model_dump(mode="json"), "why": explain_choice(index)}
        lines += ["", f"{name}.faiss: {explain_choice(index)}"]
        if args.explain:
            lines += [format_table(trial_rows(index)), "", format_table(slice_rows(index))]
    return CommandResult(facts, "\n".join([f"release {release.release_id}, space {card.origin.space_id}", *lines]))
