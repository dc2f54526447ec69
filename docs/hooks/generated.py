"""Parts of pages that are made from the program when the site is built: the help of commands, the configuration."""

import argparse
from typing import Any

from pipeline import cli
from pipeline.sample import sample_toml


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marks of generated parts."""
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", "\n\n".join(map(_command, cli.VERBS)))
    return markdown.replace("<!-- samespace.toml -->", f"```toml\n{sample_toml()}```")


def _command(verb: str) -> str:
    parser = argparse.ArgumentParser(
        prog=f"samespace {verb}",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=100),
    )
    cli.fill(parser, verb)
    return f"## {verb}\n\n{cli.VERBS[verb][0].upper()}{cli.VERBS[verb][1:]}.\n\n```\n{parser.format_help()}```"
