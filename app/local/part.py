"""One process that `steerwise serve` keeps alive: started, seen to be ready, started again when it has ended."""

import subprocess
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from app.errors import AppError
from app.infra.processes import how_it_ended, log_tail, stop

BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # before the next start, by failures in a row
STEADY_S = 60.0  # after so long, a failure is the first again
GIVE_UP_AFTER = 3  # failures in a row of what was never ready
_PROBE_EVERY_S = 0.5
_LOOK_EVERY_S = 5.0
_SICK_LOOKS = 3  # in a row

Tell = Callable[[str, str], None]


class Health(StrEnum):
    """silent: no answer, as at the start or under load. sick: it says itself that it will not recover."""

    well = "well"
    silent = "silent"
    sick = "sick"


class PartFailed(AppError):
    """A process does not come up at all; details: the end of its log."""

    code = "part_failed"


class PartRecipe(NamedTuple):
    """start: called in the main thread, for the first time and again. health: may take two seconds.

    silence_s: once it was ready, so long without a word means that it hangs; None: however long.
    """

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    health: Callable[[subprocess.Popen[bytes]], Health]
    log: Path
    start_timeout_s: float
    stop_timeout_s: float
    silence_s: float | None = None


class Part:
    """tell: gets the name and what has just become of it."""

    def __init__(self, recipe: PartRecipe, tell: Tell):
        self.recipe = recipe
        self.tell = tell
        self.child: subprocess.Popen[bytes] | None = None
        self.ready = False
        self._ever_ready = False
        self._failures = 0
        self._sick = 0
        self._started_at = self._heard_at = 0.0
        self._due_at = 0.0  # of the next start, or of the next look

    def look(self) -> None:
        """Do what is due. Raises: PartFailed."""
        if self.child is not None and self.child.poll() is not None:
            self._fail(how_it_ended(self.child.returncode))
        elif time.monotonic() >= self._due_at:
            if self.child is None:
                self._start()
            else:
                self._watch(self.child)

    def stop(self, timeout_s: float | None = None) -> None:
        """With everything that it started. timeout_s: before it is killed; None: its own."""
        if self.child is not None:
            stop(self.child, self.recipe.stop_timeout_s if timeout_s is None else timeout_s)
            self.child, self.ready = None, False

    def _start(self) -> None:
        if not self._ever_ready and not self._failures:
            self.tell(self.recipe.name, "starting")
        self.child = self.recipe.start()
        self._started_at = time.monotonic()
        self._due_at = 0.0
        self._sick = 0

    def _watch(self, child: subprocess.Popen[bytes]) -> None:
        health = self.recipe.health(child)
        now = time.monotonic()
        self._sick = self._sick + 1 if health is Health.sick else 0
        if health is not Health.silent:
            self._heard_at = now
        if self.ready:
            self._due_at = now + _LOOK_EVERY_S
            silence_s = self.recipe.silence_s
            if self._sick >= _SICK_LOOKS:
                self._fail("it says that it cannot work any more")
            elif silence_s is not None and now - self._heard_at > silence_s:
                self._fail(f"it has not answered for {silence_s:.0f} s")
        elif health is Health.well:
            self._due_at = now + _LOOK_EVERY_S
            self.ready = self._ever_ready = True
            self.tell(self.recipe.name, f"ready after {now - self._started_at:.0f} s")
        elif now - self._started_at > self.recipe.start_timeout_s:
            self._fail(f"it was not ready after {self.recipe.start_timeout_s:.0f} s")
        else:
            self._due_at = now + _PROBE_EVERY_S

    def _fail(self, reason: str) -> None:
        steady = self.ready and time.monotonic() - self._started_at > STEADY_S
        self._failures = 1 if steady else self._failures + 1
        self.stop(0)  # what it had started must not be in the way of the next
        log = self.recipe.log
        if not self._ever_ready and self._failures >= GIVE_UP_AFTER:
            raise PartFailed(f"{self.recipe.name} does not start ({reason}); its log: {log}", log_tail(log))
        wait_s = BACKOFF_S[min(self._failures, len(BACKOFF_S)) - 1]
        self._due_at = time.monotonic() + wait_s
        self.tell(self.recipe.name, f"ended: {reason}; starting it again in {wait_s:g} s; its log: {log}")
