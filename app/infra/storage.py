"""Files that outlive a process: uploads, snapshots, adapters, reports. In a folder of this machine, or in S3.

A key that exists holds a whole file: a local one is written beside its place, synced and renamed, and S3 shows an
object only when all of it has arrived. Every call waits for the disk or the network: from a coroutine, call it
through `asyncio.to_thread`.
"""

import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from app.errors import AppError, InputError, NoSpace, Unavailable
from app.infra import failpoints, outage
from evaluation.atomic_files import whole
from training.protocol import Fault

MAX_KEY_LENGTH = 500
# Ids, digests and our own file names; no part begins with a dot, so none is `..` and none is hidden.
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199})*")
_TEMPORARY = ".part-"


class BadKey(ValueError):
    """A key that was not made from ids: a mistake of ours, or somebody's attempt to leave the storage."""


class StorageAway(Unavailable):
    """The storage does not answer, or does not let us in; `Retry-After` says when to come back."""

    exit_code = 2
    code = "storage_away"


class Storage(NamedTuple):
    """root: of every key, as the file system calls it. Made by `open_storage`.

    An error is never an answer: what cannot be said is StorageAway, and not that nothing is there.
    """

    files: Any  # fsspec.AbstractFileSystem, which has no types
    root: str

    def put_file(self, local: Path, key: str) -> None:
        """What was there is replaced, at once and as a whole. Raises: BadKey, NoSpace, StorageAway."""
        failpoints.reached("storage.before_put")
        self._put_file(local, self._place(key))
        failpoints.reached("storage.after_put")

    def _put_file(self, local: Path, place: str) -> None:
        with self._telling(writing=True):
            if isinstance(self.files, LocalFileSystem):
                Path(
                    self.root
                ).stat()  # made by `open_storage`; what was taken away since is not to be made anew
                _write_whole(local, Path(place))
                return
            self.files.put_file(str(local), place)
            if self._size(place) != local.stat().st_size:
                raise StorageAway("the storage has lost a file that it had accepted; try again")

    def _size(self, place: str) -> int | None:
        """None where nothing is there."""
        try:
            size: int = self.files.info(place)["size"]
        except FileNotFoundError:
            return None
        return size

    def get_file(self, key: str, local: Path) -> None:
        """local: made whole or not at all. Raises: BadKey, FileNotFoundError, NoSpace, StorageAway."""
        place = self._place(key)
        temporary = _temporary_for(local)
        try:
            with self._telling():
                local.parent.mkdir(parents=True, exist_ok=True)
                self.files.get_file(place, str(temporary))
                temporary.replace(local)
        finally:
            temporary.unlink(missing_ok=True)

    def open_read(self, key: str) -> BinaryIO:
        """Raises: BadKey, FileNotFoundError, StorageAway."""
        place = self._place(key)
        with self._telling():
            return cast(BinaryIO, self.files.open(place, "rb"))

    def exists(self, key: str) -> bool:
        """Raises: BadKey, StorageAway where it cannot be said."""
        place = self._place(key)
        try:
            with self._telling():
                return bool(self.files.info(place)["type"] == "file")
        except FileNotFoundError:
            return False

    def delete(self, key: str) -> None:
        """Harmless where there is nothing. Raises: BadKey, StorageAway: it is still there."""
        if not self.exists(key):
            return
        try:
            with self._telling():
                self.files.rm_file(self._place(key))
        except FileNotFoundError:
            return  # somebody else was faster

    def listed(self, older_than_s: float = 0.0) -> list[str]:
        """Of every file that has lain there for so long, in their order. Half-written files of a process that was
        killed are removed on the way. Raises: StorageAway."""
        with self._telling():
            if isinstance(self.files, LocalFileSystem):
                Path(self.root).stat()  # one that was taken away is not empty
            found = self.files.find(self.root, detail=True)
        before = time.time() - older_than_s
        old = [place for place, told in found.items() if _changed_at(told) <= before]
        keys = [place.removeprefix(f"{self.root}/") for place in old]
        for key in keys:
            if PurePosixPath(key).name.startswith(_TEMPORARY) and older_than_s > 0:
                with self._telling():
                    self.files.rm_file(f"{self.root}/{key}")
        return sorted(key for key in keys if _KEY.fullmatch(key))

    def check(self) -> None:
        """Raises: StorageAway where it cannot be used, which says why; for whoever runs it, not for callers."""
        try:
            with self._telling():
                local = isinstance(self.files, LocalFileSystem)
                self.files.info(self.root if local else self.root.partition("/")[0])  # a prefix is no thing
        except (FileNotFoundError, StorageAway) as error:
            raise StorageAway(f"{self.root} cannot be used: {outage.reason(error)}") from error

    @contextmanager
    def _telling(self, *, writing: bool = False) -> Iterator[None]:
        """writing: nothing need be there."""
        try:
            yield
        except (AppError, BadKey):
            raise
        except Exception as error:  # each client has errors of its own
            if outage.fault_of(error) is Fault.full:
                raise NoSpace("the storage is full; the same goes on when there is room") from error
            absent = isinstance(error, FileNotFoundError | NotADirectoryError)
            if absent and not writing and not self._lost(error):
                raise FileNotFoundError(*error.args) from error
            raise StorageAway("the storage does not answer now; try again") from error

    def _lost(self, error: BaseException) -> bool:
        """All of it, bucket or folder, and not the one file."""
        if isinstance(self.files, LocalFileSystem):
            return not Path(self.root).is_dir()
        found: BaseException | None = error
        while found is not None:
            response = getattr(found, "response", None)
            if isinstance(response, dict) and response.get("Error", {}).get("Code") == "NoSuchBucket":
                return True
            found = found.__cause__ or found.__context__
        return False

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
    AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL_S3, … Raises: InputError, StorageAway.
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
        raise StorageAway(f"the storage {root} cannot be used: {error.strerror}") from error
    return Storage(LocalFileSystem(), str(root))


def _changed_at(told: dict[str, Any]) -> float:
    """As the file system of a folder says it, and that of S3."""
    at = told["mtime"] if "mtime" in told else told["LastModified"]
    return float(at) if isinstance(at, int | float) else float(at.timestamp())


def _s3() -> Any:
    try:
        # Listings are cached for ever otherwise, and another process's file would not be seen.
        return fsspec.filesystem("s3", use_listings_cache=False)
    except ImportError:
        raise InputError("storage in S3 needs the extra `s3`: pip install 'steerwise[s3]'") from None


def _write_whole(local: Path, place: Path) -> None:
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with local.open("rb") as source, whole(place, temporary=_temporary_for(place)) as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def _temporary_for(path: Path) -> Path:
    return path.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
