"""Files below one root, on local disk or an object store, through `pyarrow.fs`.

Paths are relative to the root and use "/". A write is seen whole or not at all: locally a temporary
name and a rename, on an object store one PUT. Nothing relies on renaming a folder.
"""

import hashlib
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from stores.errors import CorruptError, StoreError, UsageError, require_text
from stores.files.object_store import is_outage, outage
from stores.files.parquet import named

if TYPE_CHECKING:
    import pyarrow.dataset as ds

TEMPORARY = ".tmp-"
CREDENTIALS = re.compile(r"[\w+.-]+://([^/]*@|[^?]*\?[\w.-]+=)")
"""A login or options in an address."""


def absolute(uri: str) -> str:
    """The same place for a process that runs in another folder."""
    return uri if "://" in uri else str(_rooted(uri))


def _rooted(uri: str) -> Path:
    """A local path from the root. Raises UsageError where it is relative to a working folder that was removed."""
    try:
        return Path(uri).absolute()
    except FileNotFoundError as error:
        raise UsageError(
            "the folder that this command runs in was removed",
            where=uri,
            expected="a working folder that exists, or an absolute path",
            fix="cd to a folder that exists and run the command again",
        ) from error


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder for temporary files, gone after the block. Raises StoreError where there can be none."""
    try:
        made = tempfile.TemporaryDirectory(prefix="samespace-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StoreError(
            f"there is no folder for temporary files: {error}",
            where=f"TMPDIR={os.environ.get('TMPDIR', '')}",
            expected="a folder that exists and can be written",
            fix="set TMPDIR to one, or free space in it",
        ) from error
    with made as place:
        yield Path(place)


class Storage:
    """A root folder or an object-store prefix.

    Pickles as its absolute URI, so it travels to Ray workers. Raises StoreError where the store refuses.
    """

    def __init__(self, uri: str) -> None:
        self.uri = _text(uri.rstrip("/") or "/")
        if CREDENTIALS.match(self.uri):
            raise UsageError(
                "an address must hold neither credentials nor options: it is written into manifests and reports",
                where=self.uri,
                expected="s3://bucket/prefix",
                fix="AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL in the environment",
            )

    def __getstate__(self) -> dict[str, str]:
        return {"uri": absolute(self.uri)}

    def __repr__(self) -> str:
        return f"Storage({self.uri!r})"

    @property
    def is_local(self) -> bool:
        """Whether the root is a folder on local disk."""
        return "://" not in self.uri

    @cached_property
    def fs(self) -> pafs.FileSystem:
        """The file system, rooted here."""
        if self.is_local:
            return pafs.SubTreeFileSystem(str(_rooted(self.uri)), pafs.LocalFileSystem())
        scheme, _, rest = self.uri.partition("://")
        if scheme != "s3":
            raise UsageError(f"no such kind of storage: {scheme}://", expected="a folder or s3://bucket/prefix")
        from stores.files.object_store import file_system

        return pafs.SubTreeFileSystem(rest, file_system())

    def subfolder(self, *parts: str) -> "Storage":
        """The storage of a folder in this one."""
        return Storage("/".join([self.uri, *parts]))

    def local(self, path: str = "") -> Path:
        """The place of `path` on local disk. Raises UsageError for an object store."""
        if not self.is_local:
            raise UsageError(f"{self.uri} is not on local disk", fix="use a workspace on local disk for this")
        return _rooted(self.uri) / path

    @contextmanager
    def local_copy(self, folder: str) -> Iterator[Path]:
        """A folder on local disk with the files of `folder`: itself, or for the time of the block a copy of them."""
        if self.is_local:
            yield self.local(folder)
            return
        with temporary_folder() as copy:
            for path in self.files(folder):
                Storage(str(copy)).write(path.removeprefix(folder).lstrip("/"), self.read(path))
            yield copy

    @contextmanager
    def _reached(self, path: str) -> Iterator[None]:
        """Raise StoreError, which names the path, where the store does not answer or refuses."""
        try:
            yield
        except FileNotFoundError:
            raise
        except UnicodeDecodeError as error:  # pyarrow lists names as UTF-8 only
            name = bytes(error.object).decode(errors="backslashreplace")
            raise StoreError(
                f"the name {name} is not UTF-8",
                where=self.uri,
                expected="only names in UTF-8 below this folder",
                fix="rename that file or folder, or move it away; samespace writes no such name",
            ) from error
        except OSError as error:
            raise StoreError(
                f"the store refused {path or 'its root'}: {error}",
                where=self.uri,
                fix="check the path, the server, the credentials in the environment, and the rights",
            ) from error

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder of this name."""
        with self._reached(path):
            return bool(self.fs.get_file_info(_inside(path)).type != pafs.FileType.NotFound)

    def size(self, path: str) -> int:
        """Bytes in a file; 0 where there is none."""
        with self._reached(path):
            return int(self.fs.get_file_info(_inside(path)).size or 0)

    def files(self, folder: str = "") -> list[str]:
        """Paths of all files below a folder, sorted; temporary ones left out."""
        return [info.path for info in self.infos(folder) if not info.base_name.startswith(TEMPORARY)]

    def infos(self, folder: str = "") -> list[pafs.FileInfo]:
        """All files below a folder, temporary ones too, sorted by path; with sizes and times."""
        with self._reached(folder):
            found = self.fs.get_file_info(pafs.FileSelector(_inside(folder), recursive=True, allow_not_found=True))
            return sorted((info for info in found if info.type == pafs.FileType.File), key=lambda info: info.path)

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders directly in a folder, sorted."""
        with self._reached(folder):
            infos = self.fs.get_file_info(pafs.FileSelector(folder, allow_not_found=True))
            return sorted(info.base_name for info in infos if info.type == pafs.FileType.Directory)

    def read(self, path: str, max_bytes: int | None = None, fix: str = "") -> bytes:
        """All bytes of a file.

        Raises CorruptError, which says `fix`, where it is missing, a folder, or longer than `max_bytes`.
        """
        try:
            with self._reached(path), self.fs.open_input_file(_inside(path)) as stream:
                if max_bytes is not None and (found := stream.size()) > max_bytes:
                    raise CorruptError(
                        f"{path} has {found:,} bytes", where=self.uri, expected=f"at most {max_bytes:,}", fix=fix
                    )
                data, size = bytes(stream.read()), stream.size()
                if len(data) != size:
                    raise OSError(f"{len(data):,} of {size:,} bytes were read")
                return data
        except FileNotFoundError as error:
            raise CorruptError(f"the file {path} is missing", where=self.uri, fix=fix) from error
        except StoreError as error:
            if not self._is_folder(path):
                raise
            raise CorruptError(
                f"{path} is a folder",
                where=self.uri,
                expected="a file",
                fix=f"move the folder away; {fix}".rstrip("; "),
            ) from error

    def _is_folder(self, path: str) -> bool:
        with self._reached(path):
            return bool(self.fs.get_file_info(_inside(path)).type == pafs.FileType.Directory)

    def write(self, path: str, data: bytes | pa.Buffer) -> None:
        """Write a whole file, seen by readers either not at all or complete."""
        try:
            if self.is_local:
                self._write_local(self.local(_inside(path)), data)
                return
            from stores.files.object_store import put_object

            put_object(self.uri, _inside(path), data)
        except OSError as error:
            raise StoreError(
                f"cannot write {path}: {error}", where=self.uri, fix="check free space and rights"
            ) from error

    @staticmethod
    def _write_local(target: Path, data: bytes | pa.Buffer) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}-{target.name}")
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, path: str) -> None:
        """Remove a file if it is there."""
        if self.exists(path):
            with self._reached(path), suppress(FileNotFoundError):
                self.fs.delete_file(path)

    def delete_tree(self, folder: str) -> None:
        """Remove a folder and everything in it if it is there."""
        if self.exists(folder):
            with self._reached(folder), suppress(FileNotFoundError):
                self.fs.delete_dir(folder)

    def read_table(
        self, path: str, columns: list[str] | None = None, dictionaries: list[str] | None = None
    ) -> pa.Table:
        """One Parquet file as a table; `dictionaries` are columns (by Parquet's path) left as codes of their values.

        Raises CorruptError where it cannot be read.
        """
        with self.parquet(path, dictionaries) as file:
            return file.read(columns)

    @contextmanager
    def parquet(self, path: str, dictionaries: list[str] | None = None) -> Iterator[pq.ParquetFile]:
        """A Parquet file, open to be read in parts. Raises CorruptError where any of it cannot be read."""
        with named(path, self.uri), self.fs.open_input_file(_inside(path)) as stream:
            # not pq.read_table, which loads pyarrow.dataset and with it pandas
            yield pq.ParquetFile(stream, read_dictionary=dictionaries, page_checksum_verification=True)

    def dataset(self, folder: str, schema: pa.Schema | None = None) -> "ds.Dataset":
        """All Parquet files below a folder, in the order of their names. Raises CorruptError for an unreadable one."""
        import pyarrow.dataset as ds  # here, because it loads pandas, for which a command that looks has no time

        files = [path for path in self.files(folder) if path.endswith(".parquet")]
        checked = ds.ParquetFileFormat(page_checksum_verification=True)
        try:
            return ds.dataset(files, filesystem=self.fs, format=checked, schema=schema)
        except (OSError, pa.ArrowInvalid) as error:
            if is_outage(error):
                raise outage(self.uri, folder, error) from error
            raise CorruptError(f"cannot read {folder}: {error}", where=self.uri) from error


def _inside(path: str) -> str:
    """The path, unless it leaves the root: names that other people chose become parts of paths."""
    if ".." in path.split("/") or "\0" in path:
        raise UsageError(f"not a path below a root: {path!r}")
    return _text(path)


def _text(name: str) -> str:
    """A name that a command line or a file system gave. Raises UsageError where it was not UTF-8 there."""
    require_text(name)
    return name


def sha256(data: bytes | pa.Buffer) -> str:
    """The hex SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()
