"""`samespace doctor`: is this machine and this workspace fit for a night?"""

from argparse import ArgumentParser, Namespace

from pipeline.answer import Answer, config_of, table

EXAMPLES = (
    "samespace doctor --lake lake --workspace ws",
    "samespace doctor --verify --workspace ws                # every published byte",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--verify", action="store_true", help="read every published file and compare its hash")


def run(args: Namespace) -> Answer:
    """Look at machine, stores, lake and workspace; exit code 1 where something would stop a night."""
    from pipeline import troubles
    from stores.workspace import Workspace

    config = config_of(args)
    workspace = Workspace.open(config.workspace)
    findings = [*troubles.machine(), *troubles.around(config, workspace)]
    if args.verify:
        findings += troubles.verified(workspace)
    bad = [finding for finding in findings if finding["state"] == "bad"]
    return Answer({"findings": findings, "healthy": not bad}, table(findings), 1 if bad else 0)
