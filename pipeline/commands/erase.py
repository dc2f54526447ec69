"""`samespace erase MEMBER`: remove a member from every release, the history and the online store."""

from argparse import ArgumentParser, Namespace

from pipeline.answer import Answer, config_of

EXAMPLES = ("samespace erase 42 --why 'request 1718' --workspace ws",)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("member", help="the member's id")
    parser.add_argument("--why", default="", metavar="TEXT", help="kept with the receipt; name nobody in it")


def run(args: Namespace) -> Answer:
    """Erase a member, keep it out of later nights, and say what was rewritten; the same again does no harm."""
    from pipeline.erasing import erase_member

    erased = erase_member(config_of(args), args.member, args.why)
    receipt = erased.receipt
    releases = ", ".join(f"{name} (revision {revision})" for name, revision in receipt.releases.items())
    done = f"erased; receipt {receipt.subject[:16]}"
    if erased.completed:
        done = f"the interrupted erasure of this member was completed; receipt {receipt.subject[:16]}"
    lines = [
        done,
        *(f"erased before from {name}, at {at}" for name, at in erased.earlier.items()),
        f"releases rewritten: {releases or 'none'}",
        f"files of Feast's history rewritten: {receipt.history_files}",
        f"online views: {', '.join(receipt.views) or 'none'}",
        "not touched: the lake, backups, and the weights of models that were trained with the member",
    ]
    facts = receipt.model_dump() | {"completed": erased.completed, "erased_before": erased.earlier}
    return Answer(facts, "\n".join(lines))
