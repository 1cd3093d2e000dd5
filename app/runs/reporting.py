"""From what a stage's process says about itself to the job's progress and events."""

import time
from typing import Any, Protocol

from app.jobs.lease import Event
from app.runs.budgets import Costs
from app.runs.time_left import TimeLeft

EVERY_S = 1.0  # how often metrics are kept: a row each
_NOT_METRICS = frozenset({"at", "stage", "event", "step", "total_steps", "message"})
_DOING = {"traces": "writing traces"}


class Listener(Protocol):
    """What app.jobs.context.JobContext offers."""

    def progress(self, done: int, total: int | None = None, message: str = "") -> None: ...
    def event(self, event: Event) -> None: ...


class StageReporter:
    """max_seconds: after which the stage ends by itself. Called from one thread."""

    def __init__(self, to: Listener, kind: str, max_seconds: float | None, costs: Costs | None = None):
        self._to, self._kind, self._max_seconds, self._costs = to, kind, max_seconds, costs
        self._watched = TimeLeft()
        self._kept_at = float("-inf")
        self._pending: Event | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        if self._costs is not None:
            self._costs.heard(event)
        if event.get("event") not in ("progress", "metric"):
            return  # that it started and how it ended is said by the job itself
        step, total = event.get("step") or 0, event.get("total_steps")
        message = event.get("message") or _DOING.get(self._kind, "training")
        self._to.progress(step, total, message)
        if event.get("message"):
            self._to.event({"event": "progress", "stage": self._kind, "message": message})
        metrics = {name: value for name, value in event.items() if name not in _NOT_METRICS}
        if metrics:
            left_s = self._watched.left_s(step, total, self._max_seconds)
            counted = {"step": step, "total_steps": total, "eta_s": left_s and round(left_s, 1)}
            self._keep({"event": "metric", "stage": self._kind, **counted, "metrics": metrics})

    def close(self) -> None:
        """The last metrics are kept whenever they came."""
        if self._pending is not None:
            self._to.event(self._pending)
        self._pending = None

    def _keep(self, event: Event) -> None:
        now = time.monotonic()
        if now < self._kept_at + EVERY_S:
            self._pending = event
            return
        self._kept_at, self._pending = now, None
        self._to.event(event)
