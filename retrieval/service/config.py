"""Settings of the service: where it listens, how much one request may ask for, how soon it follows the pointer."""

from pydantic import Field

from stores.settings import Settings

TOKEN = "SAMESPACE_TOKEN"
"""The environment variable that holds the token; never a setting, so that it is in no file, argument or manifest."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ServeConfig(Settings):
    """The service. Anything but loopback needs a token in the environment variable SAMESPACE_TOKEN."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    max_k: int = Field(default=500, ge=1)
    """The most titles that one request may ask for."""
    max_body_bytes: int = Field(default=262_144, ge=1)
    """The largest request body: a vector of 4,096 numbers is about 80,000 bytes of JSON."""
    max_exclude: int = Field(default=10_000, ge=0)
    """The most ids that one search may leave out."""
    refresh_s: float = Field(default=1.0, gt=0)
    """Seconds between two looks at the pointer; a new release is opened beside the old one and then takes its place."""
    retry_max_s: float = Field(default=60.0, gt=0)
    """Longest pause in seconds before a release that could not be opened is tried again; pauses double up to this."""
    heartbeat_limit_s: float = Field(default=600.0, gt=0)
    """Seconds without a look at the pointer after which `/healthz` and `/readyz` answer 503: opening a release takes
    less, so the thread that follows the pointer is stuck and the process should be started again."""
    max_behind_s: float | None = Field(default=None, gt=0)
    """Seconds that the service may be behind the live release before `/readyz` answers 503; unset means any time, since
    old answers are better than none where every process has the same trouble."""
    max_connections: int = Field(default=512, ge=1)
    """Connections at a time. One more takes the place of that which has been idle, or sending its request, longest."""
    max_header_bytes: int = Field(default=32_768, ge=1024)
    """The largest request line and headers together, in bytes; ids in a path may be half as long."""
    header_timeout_s: float = Field(default=10.0, gt=0)
    """Seconds that a client may take to send request line and headers."""
    body_timeout_s: float = Field(default=30.0, gt=0)
    """Seconds that a client may take to send the body of a request."""
    send_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds that a client may take to read an answer."""
    keep_alive_s: float = Field(default=5.0, gt=0)
    """Seconds that a connection stays open between two requests; make it longer than that of a proxy in front."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host in LOOPBACK
