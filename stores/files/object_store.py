"""S3 beyond pyarrow's file system: one PUT per file, deadlines, and outages told from damage.

One PUT is seen whole or not at all and gets a plain ETag, which Feast's Dask store needs. Credentials come from the
environment only; `AWS_ENDPOINT_URL` names another server than Amazon's. Every wait for a server has an end, and an
outage is told from damage: a server that answers 500, 503, half a body or nothing says nothing about the file.
"""

import os
from functools import lru_cache
from typing import IO, Any

import pyarrow as pa
import pyarrow.fs as pafs

from stores.errors import StoreError

CONNECT_S, ANSWER_S, ATTEMPTS = 10, 60, 5
"""Seconds to reach a server and to wait for the next bytes of its answer; how often a request is tried, with pauses."""
ABOUT_THE_FILE = ("NO_SUCH_KEY", "RESOURCE_NOT_FOUND", "ACCESS_DENIED")
"""Answers that say something about one file, where all others say something about the server."""
CURE = "check the server, the network, the bucket, the credentials in the environment and the rights"


def endpoint_url() -> str | None:
    """The server that the environment names; None for Amazon's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def client() -> Any:
    """A client of this process, one for each server and user that the environment names."""
    limits = (CONNECT_S, ANSWER_S, ATTEMPTS)
    return _client(endpoint_url(), os.environ.get("AWS_ACCESS_KEY_ID"), os.getpid(), limits)


@lru_cache(maxsize=4)
def _client(endpoint: str | None, _user: str | None, _process: int, limits: tuple[float, float, int]) -> Any:
    import boto3
    from botocore.config import Config

    connect_s, answer_s, attempts = limits
    retries = {"total_max_attempts": attempts, "mode": "standard"}
    config = Config(connect_timeout=connect_s, read_timeout=answer_s, retries=retries)
    return boto3.client("s3", endpoint_url=endpoint, config=config)


def file_system() -> pafs.S3FileSystem:
    """Arrow's file system for S3, with the same server and limits."""
    retries = pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS)
    return pafs.S3FileSystem(
        endpoint_override=endpoint_url(), connect_timeout=CONNECT_S, request_timeout=ANSWER_S, retry_strategy=retries
    )


def is_outage(error: BaseException) -> bool:
    """Whether an exception of Arrow's, boto's or DuckDB's says that the server did not serve, nothing about a file."""
    text = str(error)
    if type(error).__module__.partition(".")[0] == "botocore":
        return True
    return "AWS Error" in text and not any(code in text for code in ABOUT_THE_FILE)


def outage(uri: str, path: str, error: BaseException) -> StoreError:
    """The error of a server that does not serve."""
    return StoreError(f"the object store did not serve{f' {path}' if path else ''}: {error}", where=uri, fix=CURE)


def bucket_and_key(uri: str, path: str) -> dict[str, str]:
    """Bucket and key of a path below an `s3://` root."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": f"{prefix}/{path}".lstrip("/")}


def put_object(uri: str, path: str, data: bytes | pa.Buffer | IO[bytes]) -> None:
    """Write a whole file with one PUT (at most 5 GB). Raises StoreError where the server refuses."""
    from botocore.exceptions import BotoCoreError, ClientError

    body = data if not isinstance(data, pa.Buffer) else data.to_pybytes()
    try:
        client().put_object(**bucket_and_key(uri, path), Body=body)
    except (BotoCoreError, ClientError) as error:
        raise StoreError(f"cannot write {path}: {error}", where=uri, fix=CURE) from error
