"""`samespace completions SHELL`: a completion script for bash, zsh or fish."""

import shlex
from argparse import ArgumentParser, Namespace

from pipeline.arguments import CommandResult

EXAMPLES = (
    "source <(samespace completions bash)        # now, or in ~/.bashrc",
    "source <(samespace completions zsh)         # now, or in ~/.zshrc after compinit",
    "samespace completions fish > ~/.config/fish/completions/samespace.fish",
)

BASH = """_samespace() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} verb=${{COMP_WORDS[1]}} words
  if [ "$COMP_CWORD" -eq 1 ]; then words="{verbs}"; else case "$verb" in
{cases}
  esac; fi
  case "$word" in
    -*) COMPREPLY=($(compgen -W "$words" -- "$word")) ;;
    *) if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "$words" -- "$word")); else COMPREPLY=(); fi ;;
  esac
}}
complete -o default -F _samespace samespace
"""
ZSH = """#compdef samespace
_samespace() {{
  local -a verbs
  verbs=(
{verbs}
  )
  if (( CURRENT == 2 )); then _describe 'verb' verbs; return; fi
  case "$words[2]" in
{cases}
  esac
  _files
}}
compdef _samespace samespace
"""


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("shell", choices=["bash", "fish", "zsh"], help="for which shell")


def run(args: Namespace) -> CommandResult:
    """Print the script, made from the parsers of the verbs themselves."""
    from pipeline.cli import VERBS, options_of

    options = {verb: options_of(verb) for verb in VERBS}
    script = {"bash": _bash, "fish": _fish, "zsh": _zsh}[args.shell](VERBS, options)
    return CommandResult({"shell": args.shell, "script": script}, script)


def _bash(verbs: dict[str, str], options: dict[str, dict[str, str]]) -> str:
    cases = "\n".join(f'    {verb}) words="{" ".join(options[verb])}" ;;' for verb in verbs)
    return BASH.format(verbs=" ".join(verbs), cases=cases)


def _zsh(verbs: dict[str, str], options: dict[str, dict[str, str]]) -> str:
    named = "\n".join(f"    {_quoted(f'{verb}:{summary}')}" for verb, summary in verbs.items())
    lines = []
    for verb in verbs:
        flags = " ".join(_quoted(f"{flag}:{told}") for flag, told in options[verb].items())
        lines.append(f"    {verb}) local -a flags; flags=({flags}); [[ $PREFIX == -* ]] && _describe 'option' flags ;;")
    return ZSH.format(verbs=named, cases="\n".join(lines))


def _fish(verbs: dict[str, str], options: dict[str, dict[str, str]]) -> str:
    first = "__fish_use_subcommand"
    lines = [f"complete -c samespace -n {first} -f -a {verb} -d {_quoted(told)}" for verb, told in verbs.items()]
    for verb, flags in options.items():
        where = _quoted(f"__fish_seen_subcommand_from {verb}")
        for flag, told in flags.items():
            name = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
            lines.append(f"complete -c samespace -n {where} {name} -d {_quoted(told)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Text as one word of any of the shells."""
    return shlex.quote(text)
