"""Places at which a fault run ends a process: off unless STEERWISE_FAILPOINTS names the folder of such a run.

Every place that is reached leaves a file in `seen`, as old as the last time. Where a file of its name lies in `armed`,
the one process that takes it away leaves its id in `hit` and ends there, by SIGKILL.
"""

import os
import signal
import sys
import time
from pathlib import Path

VARIABLE = "STEERWISE_FAILPOINTS"
SEEN, ARMED, HIT = "seen", "armed", "hit"
# Those through which a transaction is opened; the place is that of whoever opened it.
_BETWEEN = ("contextlib", "app.infra.db.session", "app.jobs.context", __name__)
_NOTED_EVERY_S = 1.0
_noted: dict[str, float] = {}


def reached(place: str) -> None:
    folder = os.environ.get(VARIABLE)
    if folder is not None:
        _reached(Path(folder), place)


def at_border(border: str, site: str | None = None) -> None:
    """border: such as `before_commit`. site: None for the function that opened the transaction."""
    if VARIABLE in os.environ:
        reached(f"{site or _site()}.{border}")


def _site() -> str:
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    return f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"


def _reached(folder: Path, place: str) -> None:
    name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in place)
    if time.monotonic() > _noted.get(name, 0.0) + _NOTED_EVERY_S:
        _noted[name] = time.monotonic()
        (folder / SEEN / name).touch()
    try:
        (folder / ARMED / name).unlink()
    except FileNotFoundError:
        return
    (folder / HIT / name).write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)
