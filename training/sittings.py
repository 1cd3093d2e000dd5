"""A training that takes a share of the clock, in sittings: each goes on where the last one stopped."""

import json
import math
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from evaluation.atomic_files import write_whole

LEAST_RATE: Final = 0.04
_STATE: Final = "state.json"


class Sitting:
    """Begins when it is made. before_s: of earlier sittings."""

    def __init__(self, minutes: float, before_s: float):
        self._whole_s, self._before_s, self._begun = 60 * minutes, before_s, time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before_s + time.monotonic() - self._begun

    @property
    def share(self) -> float:
        """Of the whole time; above 1 when it is over."""
        return self.seconds / self._whole_s


class Every:
    """Does something again, so many seconds after it was last done."""

    def __init__(self, seconds: float, act: Callable[[], object]):
        self._seconds, self._act, self._done = seconds, act, time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._done > self._seconds:
            self._act()
            self._done = time.monotonic()


def rate(share: float, step: int, warm_up: int, least: float = LEAST_RATE) -> float:
    """Of the highest one: up over so many steps, then down a cosine over the time, to the least."""
    warm = min(1.0, (step + 1) / warm_up)
    return warm * (least + (1 - least) * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def write_state(out: Path, counts: Mapping[str, Any], rng: random.Random) -> None:
    """The last file of a checkpoint."""
    write_whole(out / _STATE, json.dumps({"counts": counts, "rng": rng.getstate()}).encode())


def read_state(out: Path, rng: random.Random) -> dict[str, Any] | None:
    """The counts, with the random state put back; None where there is no checkpoint."""
    if not (out / _STATE).exists():
        return None
    state = json.loads((out / _STATE).read_text(encoding="utf-8"))
    version, internal, gauss = state["rng"]
    rng.setstate((version, tuple(internal), gauss))
    counts: dict[str, Any] = state["counts"]
    print(f"resumed at step {counts['step']}", flush=True)
    return counts
