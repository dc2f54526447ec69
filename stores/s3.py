"""What pyarrow's file system for S3 does not offer: conditional writes, and a whole file in one PUT.

One PUT is seen whole or not at all and gets a plain ETag, which Feast's Dask store needs. Credentials come from the
environment only; `AWS_ENDPOINT_URL` names another server than Amazon's.
"""

import os
from functools import lru_cache
from typing import IO, Any

import pyarrow as pa

from stores.errors import StoreError


def endpoint_url() -> str | None:
    """The server that the environment names; None for Amazon's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def client() -> Any:
    """A client of this process, one for each server and user that the environment names."""
    return _client(endpoint_url(), os.environ.get("AWS_ACCESS_KEY_ID"), os.getpid())


@lru_cache(maxsize=4)
def _client(endpoint: str | None, _user: str | None, _process: int) -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=endpoint)


def place_of(uri: str, path: str) -> dict[str, str]:
    """Bucket and key of a path below an `s3://` root."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": f"{prefix}/{path}".lstrip("/")}


def put(uri: str, path: str, data: bytes | pa.Buffer | IO[bytes]) -> None:
    """Write a whole file with one PUT (at most 5 GB). Raises StoreError where the server refuses."""
    from botocore.exceptions import BotoCoreError, ClientError

    body = data if not isinstance(data, pa.Buffer) else data.to_pybytes()
    try:
        client().put_object(**place_of(uri, path), Body=body)
    except (BotoCoreError, ClientError) as error:
        raise StoreError(
            f"cannot write {path}: {error}", where=uri, fix="check the server, the bucket and the rights"
        ) from error
