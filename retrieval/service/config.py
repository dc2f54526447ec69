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
    """How often the pointer is looked at; a new release is opened beside the old one and then takes its place."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return self.host in LOOPBACK
