"""The folder of a fault run: made for it, marked as its own, and never one that holds anything else."""

import ctypes
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import InputError

MARK = ".steerwise-faults"
_CLONE_NEWNS = 0x00020000
_BLOCK = bytes(1 << 20)


@contextmanager
def scratch_folder(given: Path | None, *, keep: bool) -> Iterator[Path]:
    """given: one that is not there yet, is empty, or was left by an earlier fault run; None: one in the system's place
    for temporary files. keep: it stays afterwards. Raises: InputError.
    """
    folder = Path(tempfile.mkdtemp(prefix="sw-faults-")) if given is None else given.absolute()
    if given is not None:
        _check(folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
    (folder / MARK).touch()
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _check(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is no folder; name one that is not there yet")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise InputError(
            f"{folder} holds something that no fault run has made, and a fault run breaks what it uses; "
            "name a folder that is not there yet"
        )


class Disk:
    """A small file system at `folder`, which can be filled. problem: why there is none here."""

    def __init__(self, folder: Path, size_mib: int):
        """From the main thread, before there is another: the mount is seen by this process and those it starts."""
        self.folder = folder
        self._ballast = folder / ".ballast"
        folder.mkdir(mode=0o700, exist_ok=True)
        self.problem = _mount(folder, size_mib)

    def fill(self) -> None:
        with suppress(OSError), self._ballast.open("ab") as file:
            while True:
                file.write(_BLOCK)
                file.flush()

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        if self.problem is None:
            subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True)


def _mount(folder: Path, size_mib: int) -> str | None:
    if os.geteuid() != 0:
        return "only root may mount a small file system"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        return f"no mount of one's own: {errno.errorcode.get(ctypes.get_errno(), 'unknown')}"
    for command in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0700", "tmpfs", str(folder)],
    ):
        try:
            made = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            return f"mount cannot be run: {error.strerror}"
        if made.returncode:
            return made.stderr.strip() or "mount failed"
    return None
