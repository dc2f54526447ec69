"""`samespace doctor`: is this machine and this workspace fit for a night?"""

from argparse import ArgumentParser, Namespace

from pipeline.arguments import CommandResult, config_of, format_table

EXAMPLES = (
    "samespace doctor --lake lake --workspace ws",
    "samespace doctor --verify --workspace ws                # every published byte",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--verify", action="store_true", help="read every published file and compare its hash")


def run(args: Namespace) -> CommandResult:
    """Look at machine, stores, lake and workspace; exit code 1 where something would stop a night."""
    from pipeline import health_checks
    from stores.releases.workspace import Workspace

    config = config_of(args)
    workspace = Workspace.open(config.workspace)
    findings = [*health_checks.check_machine(), *health_checks.check_environment(config, workspace)]
    if args.verify:
        findings += health_checks.verify_files(workspace)
    bad = [finding for finding in findings if finding["state"] == "bad"]
    return CommandResult({"findings": findings, "healthy": not bad}, format_table(findings), 1 if bad else 0)
