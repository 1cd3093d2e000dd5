"""What a running stage says about itself, as lines of events.jsonl. Torch-free."""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training.protocol import EVENTS


class EventWriter:
    """Appends, so that a resumed stage goes on with the same file. `step` is the last one written.

    silent: of several processes one speaks.
    """

    def __init__(self, out: Path, stage: str, *, silent: bool = False):
        self._path, self._stage, self._silent = out / EVENTS, stage, silent
        self.step: int | None = None

    def write(
        self,
        event: str,
        *,
        step: int | None = None,
        total_steps: int | None = None,
        message: str = "",
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        self.step = self.step if step is None else step
        if self._silent:
            return
        line: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "stage": self._stage,
            "event": event,
            "step": step,
            "total_steps": total_steps,
            "message": message,
        }
        line |= {name: _finite(value) for name, value in (metrics or {}).items() if name not in line}
        with self._path.open("a") as file:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value: float) -> float | None:
    """JSON has no NaN; a value that is none is written as null, never as 0."""
    if isinstance(value, int):
        return value
    return round(value, 6) if math.isfinite(value) else None
