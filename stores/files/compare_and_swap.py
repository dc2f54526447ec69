"""Replace a small file only if it is still the one that was read (compare and swap).

Locally under an exclusive lock of the operating system; on S3 one PUT with `If-Match` or
`If-None-Match`, which pyarrow's file systems do not offer. Where the reply to a PUT is lost the client sends it again
and is refused because of its own first one: then the file has our bytes, which no two writers may have in common.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stores.errors import StoreError
from stores.files.filesystem import Storage
from stores.files.object_store import CURE, bucket_and_key, client

REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409")


def replace_if(storage: Storage, path: str, data: bytes, expected: bytes | None) -> bool:
    """Write `data` if the file's bytes equal `expected` (None: if there is no file); say whether it was written."""
    return (
        _replace_local(storage, path, data, expected)
        if storage.is_local
        else _replace_s3(storage, path, data, expected)
    )


def _replace_local(storage: Storage, path: str, data: bytes, expected: bytes | None) -> bool:
    with _locked(storage, path):
        found = storage.read(path) if storage.exists(path) else None
        if found != expected:
            return False
        storage.write(path, data)
        return True


@contextmanager
def _locked(storage: Storage, path: str) -> Iterator[None]:
    """Hold the operating system's lock of a file. Raises StoreError where the place cannot be written."""
    lock = storage.local(f".{path.replace('/', '-')}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("a")
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error}",
            where=storage.uri,
            fix="check free space and rights, or another --workspace",
        ) from error
    with handle:
        yield


def _replace_s3(storage: Storage, path: str, data: bytes, expected: bytes | None) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    place = bucket_and_key(storage.uri, path)
    try:
        condition: dict[str, Any] = {"IfNoneMatch": "*"}
        if expected is not None:
            found = client().get_object(**place)
            if found["Body"].read() != expected:
                return False
            condition = {"IfMatch": found["ETag"]}
        client().put_object(**place, Body=data, **condition)
    except ClientError as error:
        if error.response["Error"]["Code"] in REFUSED:
            return storage.exists(path) and storage.read(path) == data
        raise StoreError(f"cannot replace {path}: {error}", where=storage.uri, fix=CURE) from error
    except BotoCoreError as error:
        raise StoreError(f"cannot replace {path}: {error}", where=storage.uri, fix=CURE) from error
    return True
