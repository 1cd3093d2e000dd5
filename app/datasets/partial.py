"""A file that is still coming in, on this machine's disk. How long it is says how far the upload is, whatever happens.

One request at a time writes to it: the lock belongs to the open file, so it ends with the process that holds it.
Where several API processes share the work, they share the folder.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from app.errors import Conflict
from app.infra import locks

BLOCK_BYTES = 1 << 20
ABANDONED_S = 7 * 24 * 3600
ENDING = ".part"


class UploadInProgress(Conflict):
    """Another request is sending this file right now; ask how far it is when that one has ended."""

    code = "upload_in_progress"

    def __init__(self, message: str):
        super().__init__(message, headers={"Retry-After": "5"})


class Partial:
    """Of an open and locked file. Every call waits for the disk."""

    def __init__(self, file: BinaryIO, path: Path):
        self._file = file
        self.path = path
        self._digest = hashlib.sha256()
        self.received_bytes = os.fstat(file.fileno()).st_size

    @property
    def sha256(self) -> str:
        """Of everything so far; `begin` comes before."""
        return self._digest.hexdigest()

    def begin(self, offset: int) -> None:
        """Forget what lies behind `offset`, and read what stays, for the digest."""
        self._file.truncate(offset)
        self._file.seek(0)
        self._digest = hashlib.sha256()
        while block := self._file.read(BLOCK_BYTES):
            self._digest.update(block)
        self.received_bytes = offset

    def append(self, block: bytes) -> None:
        """Raises: OSError. A block that was written in part is forgotten by the next `begin`, or is there."""
        self._file.write(block)
        self._file.flush()
        self._digest.update(block)
        self.received_bytes += len(block)

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def path_of(folder: Path, name: str) -> Path:
    return folder / f"{name}{ENDING}"


def size_of(path: Path) -> int:
    """0 where nothing has come, or where it was given up."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def opened(path: Path) -> Iterator[Partial]:
    """Raises: UploadInProgress."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Neither truncates nor fails where the file is there.
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:  # noqa: PTH123
        if not locks.take(file):
            raise UploadInProgress("another request is sending this file right now")
        if os.fstat(file.fileno()).st_nlink == 0:  # removed between opening and locking
            raise UploadInProgress("this file was finished or given up a moment ago")
        try:
            yield Partial(file, path)
        finally:
            if size_of(path) == 0:
                path.unlink(missing_ok=True)


def remove_abandoned(folder: Path, older_than_s: float = ABANDONED_S) -> None:
    """Files that nobody has written to for so long; a client that comes back begins at 0."""
    for path in folder.glob(f"*{ENDING}"):
        with suppress(FileNotFoundError, UploadInProgress):
            if time.time() - path.stat().st_mtime > older_than_s:
                with opened(path) as partial:
                    partial.remove()
