"""Files that outlive a process: uploads, snapshots, adapters, reports. In a folder of this machine, or in S3.

A key that exists holds a whole file: a local one is written beside its place, synced and renamed, and S3 shows an
object only when all of it has arrived. Every call waits for the disk or the network: from a coroutine, call it
through `asyncio.to_thread`.
"""

import errno
import re
import shutil
import uuid
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app.errors import InputError, NoSpace
from evaluation.atomic_files import whole

MAX_KEY_LENGTH = 500
# Ids, digests and our own file names; no part begins with a dot, so none is `..` and none is hidden.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199})*")
_TEMPORARY = ".part-"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class BadKey(ValueError):
    """A key that was not made from ids: a mistake of ours, or somebody's attempt to leave the storage."""


class Storage(NamedTuple):
    """root: of every key, as the file system calls it. Made by `open_storage`."""

    files: Any  # fsspec.AbstractFileSystem, which has no types
    root: str

    def put_file(self, local: Path, key: str) -> None:
        """What was there is replaced, at once and as a whole. Raises: BadKey, NoSpace, OSError."""
        place = self._place(key)
        if isinstance(self.files, LocalFileSystem):
            _write_whole(local, Path(place))
        else:
            self.files.put_file(str(local), place)

    def get_file(self, key: str, local: Path) -> None:
        """local: made whole or not at all. Raises: BadKey, FileNotFoundError, NoSpace, OSError."""
        local.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(local)
        try:
            self.files.get_file(self._place(key), str(temporary))
            temporary.replace(local)
        except OSError as error:
            raise _as_ours(error) from None
        finally:
            temporary.unlink(missing_ok=True)

    def open_read(self, key: str) -> BinaryIO:
        """Raises: BadKey, FileNotFoundError."""
        return cast(BinaryIO, self.files.open(self._place(key), "rb"))

    def exists(self, key: str) -> bool:
        return bool(self.files.isfile(self._place(key)))

    def delete(self, key: str) -> None:
        """Harmless where there is nothing."""
        place = self._place(key)
        if self.files.isfile(place):
            self.files.rm_file(place)

    def _place(self, key: str) -> str:
        if not _KEY.fullmatch(key) or len(key) > MAX_KEY_LENGTH:
            raise BadKey(f"no key of the storage: {key[:80]!r}")
        place = f"{self.root}/{key}"
        if isinstance(self.files, LocalFileSystem) and not Path(place).resolve().is_relative_to(self.root):
            raise BadKey(f"a link leads out of the storage: {key[:80]!r}")
        return place


def open_storage(url: str) -> Storage:
    """url: a folder, which is made if need be, or s3://bucket/prefix.

    Credentials and the endpoint of S3 are read from where its clients look: AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL_S3, … Raises: InputError.
    """
    protocol, _, bucket = url.rpartition("://")
    if protocol == "s3":
        return Storage(_s3(), bucket.rstrip("/"))
    if protocol not in ("", "file"):
        raise InputError(
            f"{protocol}:// is no storage that steerwise knows; name a folder or s3://bucket/prefix"
        )
    root = Path(bucket).expanduser().resolve()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the storage {root} cannot be made: {error.strerror}") from None
    return Storage(LocalFileSystem(), str(root))


def _s3() -> Any:
    try:
        # Listings are cached for ever otherwise, and another process's file would not be seen.
        return fsspec.filesystem("s3", use_listings_cache=False)
    except ImportError:
        raise InputError("storage in S3 needs the extra `s3`: pip install 'steerwise[s3]'") from None


def _write_whole(local: Path, place: Path) -> None:
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with local.open("rb") as source, whole(place, temporary=_beside(place)) as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    except OSError as error:
        raise _as_ours(error) from None


def _beside(path: Path) -> Path:
    return path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")


def _as_ours(error: OSError) -> Exception:
    return NoSpace(f"the storage is full: {error.strerror}") if error.errno in _FULL else error
