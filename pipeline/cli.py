"""The command line: finds the verb, reads the configuration, prints the result, maps errors to exit codes.

A verb is a module in `pipeline/commands/` with `arguments(parser)` and `run(args) -> Answer`; only the
one that is asked for is imported, so that looking is fast.
"""

import argparse
import gc
import importlib
import json
import os
import signal
import sys
import threading
import traceback
import warnings
from typing import Any, NoReturn

from pipeline import interruption
from stores.errors import SamespaceError, UsageError, require_text
from stores.files.object_store import is_outage, outage
from stores.masking import mask_secrets
from stores.runtime import THREAD_NAME, do_without_pandas
from stores.terminal import defer_until_output, escape_controls, print_anything

# Before torch loads: threads that wait by spinning for long take the processors from one another as soon as there are
# more of them than processors, and those that never spin are asleep when the next piece of a step begins.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

VERBS = {
    "init": "write a commented samespace.toml",
    "simulate": "write a simulated streaming service as a lake",
    "import": "turn a MovieLens folder into a lake",
    "train": "train the foundation model; the next night runs it",
    "evaluate": "next-title quality of a model beside popularity baselines",
    "plan": "what tonight would do and take; changes nothing",
    "backfill": "past nights with the current model, into the point-in-time history",
    "nightly": "the whole night: read, encode, align, check, index, publish",
    "releases": "list the releases, or show one manifest",
    "promote": "make a release the live one",
    "rollback": "make the release before the live one live again",
    "candidates": "the best titles for a member",
    "similar": "the titles most like a title",
    "index": "how the live release is searched; --explain: what was tried and why this was chosen",
    "serve": "the live release over HTTP, with a page to wander in it",
    "diff": "what changed between two releases: dimensions, neighbours, titles",
    "dead-letter": "the refused rows of a release by reason, source and column",
    "report": "write the HTML report of a release again",
    "erase": "remove a member from every release, the history and the online store",
    "gc": "drop old releases",
    "completions": "a completion script for bash, zsh or fish",
    "doctor": "check the environment and, with --verify, every published file",
}

HANGING = ("ray", THREAD_NAME)
"""Names of threads that are over when a command is, unless they hang."""
READ_ONLY_VERBS = ("releases", "similar", "candidates", "index", "dead-letter")


class Parser(argparse.ArgumentParser):
    """A parser whose errors are told like all others, so that `--json` prints its line for them too."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with the usage and where to read more."""
        usage = " ".join(self.format_usage().removeprefix("usage: ").split())
        raise UsageError(message, expected=usage, fix=f"{self.prog} --help")


def command() -> int:
    """The process of one command, as it is installed."""
    interruption.install_handlers()
    # Imports make objects that stay: looking for garbage among them takes a fifth of their time.
    gc.set_threshold(10_000)
    if len(sys.argv) > 1 and sys.argv[1] in READ_ONLY_VERBS:
        do_without_pandas()
    print_anything()
    code = interruption.command_is_over(main())
    if any(thread.name in HANGING for thread in threading.enumerate()):
        interruption.end_process(code)  # a thread that hangs in Ray or in an encoder would be waited for
    return code


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code, as the table in the README says."""
    words = sys.argv[1:] if argv is None else argv
    try:
        return _answer(_parse(words))
    except (KeyboardInterrupt, Exception) as error:
        if not isinstance(error, KeyboardInterrupt) and interruption.received_signal() is None:
            raise
        return _stopped(interruption.received_signal() or signal.SIGINT, words)


def _answer(args: argparse.Namespace) -> int:
    if not os.environ.get("SAMESPACE_DEBUG"):
        warnings.simplefilter("ignore")
    try:
        with defer_until_output():
            answer = importlib.import_module(_module(args.verb)).run(args)
            print(json.dumps(answer.facts, default=str) if args.json else answer.text, flush=True)
        interruption.command_is_over(int(answer.exit_code))
    except BrokenPipeError:  # the reader went away; what is still buffered must not fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if interruption.received_signal() is not None:  # this is what the signal's exception became on its way
            raise
        if isinstance(error, SamespaceError):
            return _fail(error, args.json)
        if is_outage(error):
            return _fail(outage("", "", error), args.json)
        sys.stderr.write(escape_controls(mask_secrets(traceback.format_exc())))
        return _fail(
            SamespaceError(f"{type(error).__name__}: {error}", fix="report this; the trace is above"), args.json
        )
    return int(answer.exit_code)


def _stopped(number: signal.Signals, words: list[str]) -> int:
    """Say by which signal a command was stopped; its exit code."""
    verb = next((word for word in words if not word.startswith("-")), "")
    told, code = interruption.interruption_message(number, verb), interruption.exit_code(number)
    if "--json" in words:
        print(json.dumps({"error": {"kind": "Stopped", "exit_code": code, "what": told}}), flush=True)
    sys.stderr.write(f"\nsamespace: {told}\n")
    return code


def options_of(verb: str) -> dict[str, str]:
    """Every option of a verb with what its help says of it, first lines only."""
    parser = argparse.ArgumentParser(prog=f"samespace {verb}")
    add_arguments(parser, verb)
    return {flag: " ".join((action.help or "").split()) for action in parser._actions for flag in action.option_strings}


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser(
        prog="samespace",
        description="Nightly embeddings whose space keeps its meaning.",
        epilog="samespace VERB --help tells what a verb takes.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    asked = next((word for word in argv if not word.startswith("-")), None)
    for verb, summary in VERBS.items():
        plain = argparse.RawDescriptionHelpFormatter
        told = summary[0].upper() + summary[1:] + "."
        sub = verbs.add_parser(verb, help=summary, description=told, formatter_class=plain)
        if verb == asked:
            add_arguments(sub, verb)
    try:
        require_text(*argv)
        return parser.parse_args(argv)
    except UsageError as error:
        sys.exit(_fail(error, "--json" in argv))


def add_arguments(parser: argparse.ArgumentParser, verb: str) -> None:
    """Give a parser the verb's own arguments, those that every verb has, and the verb's examples."""
    module = importlib.import_module(_module(verb))
    module.arguments(parser)
    _common(parser)
    parser.epilog = "\n  ".join(["examples:", *module.EXAMPLES])


def _module(verb: str) -> str:
    return f"pipeline.commands.{'import_lake' if verb == 'import' else verb.replace('-', '_')}"


def _common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("everywhere")
    group.add_argument("--config", metavar="FILE", help="configuration (default: samespace.toml if there is one)")
    group.add_argument("--workspace", metavar="DIR|URI", help="where models, releases and the Feast repository live")
    group.add_argument("--lake", metavar="DIR|URI", help="the input tables")
    group.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", help="one setting; may be repeated")
    group.add_argument("--json", action="store_true", help="print one line of JSON on stdout, all else on stderr")


def _fail(error: SamespaceError, as_json: bool) -> int:
    if as_json:
        facts: dict[str, Any] = {"kind": type(error).__name__, "exit_code": error.exit_code, "what": error.what}
        facts |= {"where": error.where, "expected": error.expected, "fix": error.fix}
        print(json.dumps({"error": facts}))
    sys.stderr.write(f"samespace: {escape_controls(str(error))}\n")
    return error.exit_code


if __name__ == "__main__":
    sys.exit(command())
