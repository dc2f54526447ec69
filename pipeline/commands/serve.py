"""`samespace serve`: the live release over HTTP, with a page to wander in it."""

import logging
import os
import socket
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from importlib.util import find_spec

from pydantic import ValidationError

from pipeline.answer import Answer, config_of
from pipeline.config import Config, explained
from pipeline.telling import Teller
from retrieval.service.config import TOKEN, ServeConfig
from stores.errors import ConfigError, UsageError
from stores.masking import MaskedFormatter
from stores.workspace import Workspace

NEEDS = ("fastapi", "uvicorn", "prometheus_client")
EXAMPLES = (
    "samespace serve --workspace ws                          # http://127.0.0.1:8080, for this machine only",
    "curl 'http://127.0.0.1:8080/v1/members/42/candidates?k=5&country=GB'",
    "SAMESPACE_TOKEN=… samespace serve --host 0.0.0.0 --port 80 --workspace ws",
)


def arguments(parser: ArgumentParser) -> None:
    """Add the verb's own arguments."""
    parser.add_argument("--host", help="where to listen (default: 127.0.0.1; others need a token in SAMESPACE_TOKEN)")
    parser.add_argument("--port", type=int, help="the port (default: 8080; 0 takes a free one)")


def run(args: Namespace) -> Answer:
    """Serve until stopped.

    Raises UsageError where the extra `[serve]` is missing or the port is taken, ConfigError where other
    machines could reach the service and no token is set, CorruptError for a live release that is broken.
    """
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        raise UsageError(f"the service needs {', '.join(missing)}", fix="pip install 'samespace[serve]'")
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # one query is too little for several threads
        os.environ.setdefault(variable, "1")
    import uvicorn

    from retrieval.service import Live, create_app
    from validation.report import plane_of

    config = config_of(args)
    settings, token = _settings(config, args), os.environ.get(TOKEN) or None
    if not settings.is_loopback and token is None:
        safe = f"{TOKEN}=… before the command, or --host 127.0.0.1"
        raise ConfigError(f"{settings.host} can be reached from elsewhere", expected=f"a token in {TOKEN}", fix=safe)
    logging.basicConfig(level=logging.INFO, handlers=[_log_handler()])
    live = Live(Workspace.open(config.workspace), settings.refresh_s)
    live.refresh()  # here, so that a broken release is told as an error of this command
    with _bound(settings.host, settings.port) as bound:
        address = f"http://{settings.host}:{bound.getsockname()[1]}"
        Teller(args.json).line(f"serving {config.workspace} on {address} (Ctrl-C stops)")
        app = create_app(live, settings, plane_of, token)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
        with suppress(KeyboardInterrupt):
            server.run(sockets=[bound])
    return Answer({"address": address, "workspace": config.workspace, "swaps": live.swaps}, "stopped")


def _log_handler() -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(MaskedFormatter("%(asctime)s %(levelname)s %(message)s"))
    return handler


def _settings(config: Config, args: Namespace) -> ServeConfig:
    flags = {name: getattr(args, name) for name in ("host", "port") if getattr(args, name) is not None}
    try:
        return ServeConfig.model_validate({**config.serve.model_dump(), **flags})
    except ValidationError as error:
        raise explained(error, "samespace serve") from error


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
