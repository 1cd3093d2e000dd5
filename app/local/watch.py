"""Keeps the parts of `steerwise serve` alive until a signal comes, and then ends them, the last comer first."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from app.local.part import Part

_TICK_S = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignal:
    """How often somebody has asked us to end."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        self.times += 1
        if self.times == 2:
            raise KeyboardInterrupt


@contextmanager
def signals() -> Iterator[StopSignal]:
    """The first signal asks for an orderly end. The second interrupts whatever that waits for."""
    asked = StopSignal()
    before = {number: signal.signal(number, asked) for number in _SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(parts: Sequence[Part], asked: StopSignal, when_ready: Callable[[], None]) -> None:
    """parts: in the order in which they are started. when_ready: called once, as soon as all of them are.

    Whatever happens, all of them have ended when this returns or raises. Raises: PartFailed.
    """
    told = False
    try:
        while not asked.times:
            for part in parts:
                part.look()
            if not told and all(part.ready for part in parts):
                when_ready()
                told = True
            time.sleep(_TICK_S)
    except KeyboardInterrupt:
        end(parts, 0)
    finally:
        end(parts)


def end(parts: Sequence[Part], timeout_s: float | None = None) -> None:
    """One after the other: who uses something ends before what it uses."""
    try:
        for part in reversed(parts):
            if part.child is not None:
                part.tell(part.recipe.name, "stopping")
            part.stop(timeout_s)
    except KeyboardInterrupt:  # asked again
        for part in parts:
            part.stop(0)
