"""The configuration: sections of `samespace.toml`, reading it, and the file with every default."""

import inspect
import json
import re
import textwrap
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from alignment.config import AlignmentConfig
from embeddings.encode.config import EncodeConfig
from embeddings.foundation.config import FoundationConfig, TasksConfig
from embeddings.histories.config import HistoriesConfig
from pipeline.arguments import DEFAULT_FILE
from pipeline.estimate import PlanConfig
from pipeline.ray_cluster import RayConfig
from retrieval.config import CandidatesConfig, RetrievalConfig
from retrieval.service.config import ServeConfig
from stores.errors import ConfigError, NotFoundError
from stores.feast.config import FREE_FORM
from stores.feast.repository import PublishConfig
from stores.settings import Settings
from validation.config import GateConfig


class FeaturesConfig(Settings):
    """Optional features, each a view of its own in Feast; a night without one removes its online rows."""

    genres: bool = False
    """`genre_embedding`: genres as points of the space, near the titles that have them. The encoder must offer it."""
    semantic_ids: bool = False
    """`title_semantic_id`: every title as a few digits, of which alike titles share the first."""
    preferences: bool = False
    """`member_preferences`: which genres and languages a member plays next, with shares. The encoder must offer it."""


INIT_HINT = "samespace init writes a file with every key and its meaning"
LONGEST = 80
"""Characters of a refused value that are shown."""


class NightConfig(Settings):
    """The night as a whole: a crashed one is resumed if it began less than `resume_within_h` hours ago."""

    resume_within_h: float = 24.0
    metrics_file: str = ""
    """A file for Prometheus' textfile collector, for example `/var/lib/node_exporter/samespace.prom`; "" for none."""


class Config(Settings):
    """Everything that can be set. `lake` and `workspace` are folders or URIs."""

    lake: str = ""
    workspace: str = "workspace"
    night: NightConfig = Field(default_factory=NightConfig)
    ray: RayConfig = Field(default_factory=RayConfig)
    plan: PlanConfig = Field(default_factory=PlanConfig)
    histories: HistoriesConfig = Field(default_factory=HistoriesConfig)
    train: FoundationConfig = Field(default_factory=FoundationConfig)
    tasks: TasksConfig = Field(default_factory=TasksConfig)
    encode: EncodeConfig = Field(default_factory=EncodeConfig)
    align: AlignmentConfig = Field(default_factory=AlignmentConfig)
    gate: GateConfig = Field(default_factory=GateConfig)
    index: RetrievalConfig = Field(default_factory=RetrievalConfig)
    features: FeaturesConfig = Field(default_factory=FeaturesConfig)
    candidates: CandidatesConfig = Field(default_factory=CandidatesConfig)
    publish: PublishConfig = Field(default_factory=PublishConfig)
    serve: ServeConfig = Field(default_factory=ServeConfig)


def read_config(path: str | None = None, settings: list[str] | None = None, **flags: str | None) -> Config:
    """The configuration of a TOML file, then of `section.key=value` settings, then of flags, later ones winning.

    Without a path `samespace.toml` is read if there is one. Raises NotFoundError for a named file that
    is not there, ConfigError for unknown keys and unusable values, each by name.
    """
    values = _read_toml(path)
    for setting in settings or []:
        _set(values, setting)
    values |= {name: value for name, value in flags.items() if value is not None}
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise config_error(error, _origin(path, settings or [])) from error


def given(settings: list[str], flags: dict[str, Any]) -> dict[str, Any]:
    """The values that `section.key=value` settings and flags give, as nested dicts.

    Raises ConfigError, by name, for unknown keys and unusable values.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        _set(values, setting)
    values |= flags
    try:
        Config.model_validate(values)
    except ValidationError as error:
        raise config_error(error, _origin(None, settings)) from error
    return values


def _origin(path: str | None, settings: list[str]) -> str:
    """Where values came from: the file if there is one, then each `--set`."""
    file = [path or DEFAULT_FILE] if Path(path or DEFAULT_FILE).exists() else []
    return ", ".join([*file, *(f"--set {_name(setting)}" for setting in settings)])


def _name(setting: str) -> str:
    """The key of a `--set`, without its value, which may be a secret."""
    found = re.match(r"[\w.\s-]*(?==)", setting)
    return found[0] if found else "(no key)"


def _read_toml(path: str | None) -> dict[str, Any]:
    place = Path(path or DEFAULT_FILE)
    if not place.exists():
        if path is None:
            return {}
        raise NotFoundError(f"there is no configuration file {path}", fix="samespace init")
    try:
        return tomllib.loads(place.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place} is not TOML: {error}", where=str(place)) from error


def _set(values: dict[str, Any], setting: str) -> None:
    """Apply `section.key=value`; the value is read as JSON, and as text where it is none."""
    name, equals, text = setting.partition("=")
    if not equals or not name.strip():
        raise ConfigError(
            f"cannot read the setting --set {_name(setting)}", expected="section.key=value", fix=INIT_HINT
        )
    *sections, key = name.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{section} is no section", where=f"--set {_name(setting)}")
    try:
        values[key] = json.loads(text)
    except json.JSONDecodeError:
        values[key] = text


def config_error(error: ValidationError, where: str) -> ConfigError:
    """What pydantic refused, by key and in one sentence each."""
    lines = []
    for fault in error.errors():
        name = ".".join(str(part) for part in fault["loc"])
        unknown = fault["type"] == "extra_forbidden"
        lines.append(f"unknown key {name}" if unknown else f"{name}: {fault['msg']}{_found(fault)}")
    return ConfigError("; ".join(lines), where=where, fix=INIT_HINT)


def _found(fault: Any) -> str:
    """The refused value, if it is a plain one of a key that holds no secrets."""
    value, place = fault["input"], [str(part) for part in fault["loc"]]
    if set(place) & set(FREE_FORM) or (len(place) < 2 and place[:1] not in (["lake"], ["workspace"])):
        return ""
    plain = isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= LONGEST)
    return f" (found {value!r})" if plain else f" (found a {type(value).__name__})"


def default_config_toml(given: dict[str, Any] | None = None) -> str:
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
        return f"# {key} is not set by default"  # TOML has no null
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
