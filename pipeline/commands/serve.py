"""`samespace serve`: the live release over HTTP, with a page to wander in it."""

import logging
import os
import resource
import socket
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from importlib.util import find_spec

from pydantic import ValidationError

from pipeline.arguments import CommandResult, config_of
from pipeline.config import Config, config_error
from pipeline.console import ConsoleReporter
from retrieval.service.config import TOKEN, ServeConfig
from stores.errors import ConfigError, UsageError
from stores.masking import MaskedFormatter
from stores.releases.workspace import Workspace
from stores.terminal import SafeFormatter

OTHER_FILES = 256
"""Files beside those of connections: libraries, logs, the files of the release that serves and of the next."""
NEEDS = ("fastapi", "uvicorn", "prometheus_client")
EXAMPLES = (
    "samespace serve --workspace ws                          # http://127.0.0.1:8080, for this machine only",
    "curl 'http://127.0.0.1:8080/v1/members/42/candidates?k=5&country=GB'",
    "SAMESPACE_TOKEN=… samespace serve --host 0.0.0.0 --port 80 --workspace ws",
)


class _LogFormatter(MaskedFormatter, SafeFormatter):
    """Format a log record without secrets, and as lines that cannot steer a terminal."""


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--host", help="where to listen (default: 127.0.0.1; others need a token in SAMESPACE_TOKEN)")
    parser.add_argument("--port", type=int, help="the port (default: 8080; 0 takes a free one)")


def run(args: Namespace) -> CommandResult:
    """Serve until stopped.

    Raises UsageError where the extra `[serve]` is missing or the port is taken, ConfigError where other
    machines could reach the service and no token is set, CorruptError for a live release that is broken.
    """
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise UsageError(f"the service needs {', '.join(missing)}", fix="pip install 'samespace[serve]'")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # one query is too little for several threads
        os.environ.setdefault(variable, "1")
    from retrieval.service import ReleaseWatcher, create_app, server
    from validation.report import plane_of

    config = config_of(args)
    settings, token = _settings(config, args), os.environ.get(TOKEN) or None
    if not settings.is_loopback and token is None:
        safe = f"{TOKEN}=… before the command, or --host 127.0.0.1"
        raise ConfigError(f"{settings.host} can be reached from elsewhere", expected=f"a token in {TOKEN}", fix=safe)
    _log_safely()
    _allow_files(settings.max_connections)
    live = ReleaseWatcher(Workspace.open(config.workspace), settings.refresh_s, settings.retry_max_s)
    live.refresh()  # here, so that a broken release is told as an error of this command
    with _bound(settings.host, settings.port) as bound:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"http://{host}:{bound.getsockname()[1]}"
        ConsoleReporter(args.json).line(f"serving {config.workspace} on {address} (Ctrl-C stops)")
        app = create_app(live, settings, plane_of, token)
        with suppress(KeyboardInterrupt):
            server(app, settings, log_level="warning").run(sockets=[bound])
    return CommandResult({"address": address, "workspace": config.workspace, "swaps": live.swaps}, "stopped")


def _log_safely() -> None:
    """Log to stderr; what errors quote of names and ids cannot steer a terminal or begin a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(_LogFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _allow_files(connections: int) -> None:
    """Let the process open a file for each connection and for two releases. Raises ConfigError where it may not."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if most != resource.RLIM_INFINITY and most < wanted:
        raise ConfigError(
            f"serve.max_connections is {connections}, and this process may open {most} files",
            expected=f"{wanted} files: one for each connection and {OTHER_FILES} others",
            fix=f"ulimit -n {wanted}, or --set serve.max_connections={max(1, most - OTHER_FILES)}",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _settings(config: Config, args: Namespace) -> ServeConfig:
    flags = {name: getattr(args, name) for name in ("host", "port") if getattr(args, name) is not None}
    try:
        return ServeConfig.model_validate({**config.serve.model_dump(), **flags})
    except ValidationError as error:
        raise config_error(error, "samespace serve") from error


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen()  # so that whoever reads the address may ask at once
    except (OSError, OverflowError) as error:
        bound.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {error}", fix="another --port, or 0 for a free one"
        ) from error
    return bound
