"""Parts of pages that are made from the program when the site is built: help of commands, configuration, whole files.

A mark is a comment, so that a page that is read as it is shows nothing odd: `<!-- commands -->`, `<!-- modules -->`,
`<!-- samespace.toml -->`, `<!-- file examples/NAME -->`.
"""

import argparse
import ast
import re
from pathlib import Path
from typing import Any

from pipeline import cli
from pipeline.config import default_config_toml

ROOT = Path(__file__).resolve().parents[2]
_FILE = re.compile(r"<!-- file ([\w./-]+) -->")
FOLDERS = ("pipeline", "embeddings", "alignment", "retrieval", "validation", "stores")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".sh": "sh"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of generated parts. Raises FileNotFoundError for a file that is not there."""
    markdown = _FILE.sub(lambda mark: _file(mark[1]), markdown)
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", "\n\n".join(map(_command, cli.VERBS)))
    if "<!-- modules -->" in markdown:
        markdown = markdown.replace("<!-- modules -->", "\n\n".join(map(_modules, FOLDERS)))
    return markdown.replace("<!-- samespace.toml -->", f"```toml\n{default_config_toml()}```")


def _file(path: str) -> str:
    """A file of the repository as a block of code."""
    language = _LANGUAGES[Path(path).suffix]
    return f"```{language}\n{(ROOT / path).read_text(encoding='utf-8').rstrip()}\n```"


def _modules(folder: str) -> str:
    """A table of the modules of a folder, each with the first line of its docstring."""
    rows = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        if path.name != "__init__.py":
            rows.append(f"| `{path.relative_to(ROOT).as_posix()}` | {first.replace('|', '&#124;')} |")
    return "\n".join([f"## {folder}", "", "| module | |", "|---|---|", *rows])


def _command(verb: str) -> str:
    parser = argparse.ArgumentParser(
        prog=f"samespace {verb}",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100),
    )
    cli.add_arguments(parser, verb)
    return f"## {verb}\n\n{cli.VERBS[verb][0].upper()}{cli.VERBS[verb][1:]}.\n\n```\n{parser.format_help()}```"
