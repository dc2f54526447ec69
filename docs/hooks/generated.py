"""Parts of pages that are made from the program when the site is built: help of commands, configuration, whole files.

A mark is a comment, so that a page that is read as it is shows nothing odd: `<!-- commands -->`,
`<!-- samespace.toml -->`, `<!-- file examples/NAME -->`.
"""

import argparse
import re
from pathlib import Path
from typing import Any

from pipeline import cli
from pipeline.sample import sample_toml

ROOT = Path(__file__).resolve().parents[2]
_FILE = re.compile(r"<!-- file ([\w./-]+) -->")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".sh": "sh"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of generated parts. Raises FileNotFoundError for a file that is not there."""
    markdown = _FILE.sub(lambda mark: _file(mark[1]), markdown)
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", "\n\n".join(map(_command, cli.VERBS)))
    return markdown.replace("<!-- samespace.toml -->", f"```toml\n{sample_toml()}```")


def _file(path: str) -> str:
    """A file of the repository as a block of code."""
    language = _LANGUAGES[Path(path).suffix]
    return f"```{language}\n{(ROOT / path).read_text(encoding='utf-8').rstrip()}\n```"


def _command(verb: str) -> str:
    parser = argparse.ArgumentParser(
        prog=f"samespace {verb}",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100),
    )
    cli.fill(parser, verb)
    return f"## {verb}\n\n{cli.VERBS[verb][0].upper()}{cli.VERBS[verb][1:]}.\n\n```\n{parser.format_help()}```"
