"""How long it still takes, for whoever watches."""

import time


class TimeLeft:
    """By what was done since the first that was seen: what came before it was loading, or an earlier attempt."""

    def __init__(self) -> None:
        self._began_at = time.monotonic()
        self._first: tuple[float, int] | None = None

    @property
    def passed_s(self) -> float:
        return time.monotonic() - self._began_at

    def left_s(self, done: int, total: int | None, most_s: float | None = None) -> float | None:
        """most_s: after which it ends by itself. None where nothing can be said yet."""
        now = time.monotonic()
        if self._first is None and done:
            self._first = now, done
        if self._first is None or total is None or done <= self._first[1]:
            return None
        since, first = self._first
        left = (now - since) / (done - first) * max(0, total - done)
        return left if most_s is None else min(left, max(0.0, most_s - self.passed_s))
