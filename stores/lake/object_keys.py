"""Objects whose keys are no paths: `a//b`, `a/./b`, `a/../b` are keys of their own on S3.

Arrow's file system refuses the first and opens another object for the others, so these are read through boto3.
"""

import io
from datetime import datetime

import pyarrow as pa

from stores.files.filesystem import Storage
from stores.files.object_store import bucket_and_key, client


def is_path(key: str) -> bool:
    """Whether Arrow's file system opens just this key."""
    return not any(part in ("", ".", "..") for part in key.split("/"))


class KeyedObject(io.RawIOBase):
    """An object of any key, read in ranges."""

    def __init__(self, uri: str, path: str) -> None:
        super().__init__()
        self._place = bucket_and_key(uri, path)
        head = client().head_object(**self._place)
        self.size: int = head["ContentLength"]
        self.modified: datetime = head["LastModified"]
        self._at = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another position."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Fill the buffer from the object, as far as it goes."""
        wanted = min(len(buffer), self.size - self._at)
        if wanted <= 0:
            return 0
        span = f"bytes={self._at}-{self._at + wanted - 1}"
        data = client().get_object(**self._place, Range=span)["Body"].read()
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_input(storage: Storage, path: str) -> pa.NativeFile:
    """A file of a lake, whatever its key, for random access.

    Raises OSError where it cannot be opened, as Arrow's own file systems do.
    """
    if storage.is_local or is_path(path):
        return storage.fs.open_input_file(path)
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return pa.PythonFile(KeyedObject(storage.uri, path), mode="r")
    except (BotoCoreError, ClientError) as error:
        raise OSError(f"AWS Error: {error}") from error
