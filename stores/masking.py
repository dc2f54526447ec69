"""Keep secrets out of texts for people: the keys whose values may be shown are listed, all others are hidden.

Blocks that belong to other libraries (Feast's stores) may hold a secret under any name. `register_secrets` notes the
value of every key that is not in SHOWN, as it is written and with environment variables filled in, and `mask_secrets`
removes those values from a text, whatever put them there: an error of ours, a message of Redis or Feast, a trace.
"""

import json
import logging
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

# fmt: off
PUBLIC_KEYS = frozenset((
    "type", "path", "host", "hosts", "port", "db", "database", "db_schema", "schema", "keyspace", "project",
    "region", "bucket", "container", "table", "dataset", "redis_type", "client", "sentinel_master",
    "registry_type", "cache_mode", "cache_ttl_seconds", "batch_size", "timeout", "sslmode", "ssl",
    "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "socket_timeout", "socket_connect_timeout",
    "key_ttl_seconds", "full_scan_for_deletion", "skip_dedup", "vector_enabled", "vector_len",
    "text_search_enabled", "enable_openai_compatible_store", "min_conn", "max_conn",
    "allow_reads_from_replicas", "consistent_reads", "skip_full_coverage_check", "require_full_coverage",
))
# fmt: on
"""Keys of a store's block or of a connection string whose values may be shown."""
MASK = "***"
MIN_SECRET_LENGTH = 3
"""Shorter values are hidden beside their key alone: they would be found in every text."""
HARMLESS_VALUES = frozenset(
    ("true", "false", "none", "null", "yes", "no", "default", "public", "localhost", "127.0.0.1", "::1")
)
"""Values that say nothing, under whatever key."""
SUSPICIOUS = re.compile(
    r"(?i)(['\"]?[\w.-]*(?:passw|pwd|passphrase|secret|token(?!s\b|is)|api_?key|access_?key|private_?key|account_?key|"
    r"credential|signature|\bsas\b|\bauth\b)[\w-]*['\"]?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&'\")}\]]+)"
)
"""A key whose name alone is a warning, and its value: for text of which no configuration is known."""
LOGIN = re.compile(r"(?<=://)(?:[^\s'\",;]*:[^\s'\",;]*(?=@)|[^\s/'\"@,;]+(?=@))")
OPTION = re.compile(r"(?:^|[?&,;\s])([\w.-]+)=('[^']*'|\"[^\"]*\"|[^,&;\s]*)")
QUERY = re.compile(r"(?<=[\w/.-])\?[\w.%-]+=[^\s'\",;)]*")
ADDRESS = re.compile(r"[a-zA-Z][\w+.-]*://[^\s'\"]+")
SECRET_VARIABLE = re.compile(r"SECRET|TOKEN|PASSW|API_?KEY|CREDENTIAL|CONNECTION_STRING")
MIN_VARIABLE_LENGTH = 8

_hidden: set[str] = set()


def register_secrets(block: Any) -> None:
    """Note every value of a free-form block, or of a connection string, that must not be shown."""
    _hidden.update(text for value in _secrets(block, shown=False) for text in _spellings(value))


def mask_block(block: Any) -> Any:
    """Return a copy of a free-form block in which the values of all keys but those of SHOWN are hidden."""
    if isinstance(block, dict):
        return {key: mask_block(value) if _may_show(key, value) else MASK for key, value in block.items()}
    if isinstance(block, list | tuple):
        return [mask_block(one) for one in block]
    return mask_secrets(block) if isinstance(block, str) else block


def mask_secrets(text: str) -> str:
    """Return a text without the values that `register_secrets` noted, secrets of the environment, and logins of
    addresses.
    """
    values = sorted(_hidden | _of_environment(), key=len, reverse=True)
    for value in values:
        if value in text:
            text = text.replace(value, MASK)
    text = ADDRESS.sub(lambda found: QUERY.sub(f"?{MASK}", LOGIN.sub(MASK, found[0])), text)
    return SUSPICIOUS.sub(lambda found: f"{found[1]}{MASK}", text)


class MaskedFormatter(logging.Formatter):
    """Format a log record, its trace included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted record, masked."""
        return mask_secrets(super().format(record))


def _may_show(key: Any, value: Any) -> bool:
    return isinstance(value, dict | list) or str(key).lower() in PUBLIC_KEYS


def _secrets(value: Any, shown: bool) -> Iterator[str]:
    """The values of a block that must not be shown; `shown` says that the key of `value` is harmless."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _secrets(inner, str(key).lower() in PUBLIC_KEYS)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets(inner, shown)
    elif isinstance(value, bool) or value is None:
        return
    else:
        yield from _of_text(str(value), shown)


def _of_text(text: str, shown: bool) -> Iterator[str]:
    """The secrets of one value: its options (`host:port,name=value`), its login (`://user:password@`), or all of it."""
    for written in {text, os.path.expandvars(text)}:
        login = [part for found in LOGIN.findall(written) for part in (found, *found.split(":", 1))]
        options = OPTION.findall(written)
        yield from login
        yield from (value for key, value in options if key.lower() not in PUBLIC_KEYS)
        if not (shown or login or options):
            yield written


def _spellings(value: str) -> Iterator[str]:
    """A secret as it may occur in a text: plain, unquoted, or as JSON and Python write it."""
    plain = value.strip("'\"")
    for one in {value, plain, unquote(plain), json.dumps(plain)[1:-1], repr(plain)[1:-1]}:
        number = re.fullmatch(r"[\d.]{1,5}", one)
        if (
            len(one) >= MIN_SECRET_LENGTH
            and one.lower() not in HARMLESS_VALUES
            and not number
            and not re.fullmatch(r"\$\{\w+\}", one)
        ):
            yield one


def _of_environment() -> set[str]:
    return {
        value
        for name, value in os.environ.items()
        if len(value) >= MIN_VARIABLE_LENGTH
        and SECRET_VARIABLE.search(name.upper())
        and value[0] not in "/~"  # no path
    }
