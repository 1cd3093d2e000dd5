"""Locks on files: held by a descriptor and every child that inherits it, and free once the last of them has ended."""

import fcntl
import time
from collections.abc import Callable
from typing import IO

_POLL_S = 0.2


def take(file: IO[str] | IO[bytes] | int) -> bool:
    """Whether nobody else holds it. Does not wait."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def take_within(
    file: IO[str] | IO[bytes] | int, timeout_s: float, gives_up: Callable[[], bool] = lambda: False
) -> bool:
    """The same, waiting. gives_up: asked after each attempt that has failed."""
    deadline = time.monotonic() + timeout_s
    while not take(file):
        if gives_up() or time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
