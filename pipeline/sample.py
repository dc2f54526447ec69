"""The commented configuration file, made from the configuration classes themselves."""

import inspect
import json
import textwrap
from typing import Any

from pydantic import BaseModel

from pipeline.config import Config


def sample_toml(given: dict[str, Any] | None = None) -> str:
    """Every key at its default, commented out, below what its class says of it; `given` values are set."""
    given = given or {}
    lines = ["# samespace: uncomment what you change; what is shown is the default.", ""]
    plain = {name: field for name, field in Config.model_fields.items() if not _is_section(field.annotation)}
    lines += [_line(name, field.get_default(call_default_factory=True), given) for name, field in plain.items()]
    lines += _sections("", Config, given)
    return "\n".join(lines) + "\n"


def _sections(prefix: str, kind: Any, given: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, field in kind.model_fields.items():
        if _is_section(field.annotation):
            below = given.get(name, {})
            lines += ["", *_section(prefix + name, field.annotation, below)]
            lines += _sections(f"{prefix}{name}.", field.annotation, below)
    return lines


def _section(name: str, kind: Any, given: dict[str, Any]) -> list[str]:
    lines = [*_comment(inspect.getdoc(kind) or ""), f"[{name}]"]
    for key, field in kind.model_fields.items():
        if not _is_section(field.annotation):
            lines += _comment(field.description or "")
            lines.append(_line(key, field.get_default(call_default_factory=True), given))
    return lines


def _line(key: str, default: Any, given: dict[str, Any]) -> str:
    """A key at its default, commented out, or at the value that is given."""
    if key in given:
        return f"{key} = {_toml(given[key])}"
    if default is None:
        return f"#{key} = (unset)"
    return f"#{key} = {_toml(default)}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, default=str)


def _comment(text: str) -> list[str]:
    return [f"# {line}".rstrip() for line in textwrap.wrap(" ".join(text.split()), 110)]


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
