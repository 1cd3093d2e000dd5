"""The folder that one `steerwise serve` at a time uses, and the short one beside it that sockets need."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import InputError, OutputBusy
from app.infra import locks
from app.infra.private import private_home

_LOCK = "serve.lock"
_LEFT_OVER_S = 30  # children of one that was killed end by themselves, and take about so long
_MAX_LOG_BYTES = 32 << 20


class HomeBusy(OutputBusy):
    """Another `steerwise serve` uses the folder."""


@contextmanager
def locked(home: Path) -> Iterator[int]:
    """The lock, for children to share: where we were killed, the folder is free only when they have ended too.

    Raises: HomeBusy, InputError.
    """
    private_home(home)
    try:
        lock = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputError(f"the folder {home} (STEERWISE_HOME) cannot be used: {error.strerror}") from None
    try:
        _take(lock, home)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield lock
    finally:
        os.close(lock)


def _take(lock: int, home: Path) -> None:
    if not locks.take_within(lock, _LEFT_OVER_S, lambda: _runs(_holder(lock))):
        raise HomeBusy(
            f"another `steerwise serve` (process {_holder(lock) or 'unknown'}) uses {home}; "
            "stop it first, or name another folder with --home"
        )


def _holder(lock: int) -> str:
    return os.pread(lock, 20, 0).decode()


def _runs(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def socket_folder(home: Path, parent: Path) -> Iterator[Path]:
    """Of mode 0700, its name made from `home`'s, so that what a killed one left there is found and removed.

    Call under the lock of `home`. Raises: InputError.
    """
    folder = parent / f"steerwise-{os.getuid()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:8]}"
    try:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise InputError(
            f"no folder for sockets can be made in {parent} ({error.strerror}); "
            "name another with STEERWISE_SOCKET_DIR"
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def log_file(home: Path, name: str) -> Path:
    """Logs grow over restarts; a long one is put aside once."""
    path = home / "logs" / f"{name}.log"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.is_file() and path.stat().st_size > _MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path
