"""When a stage must have ended. Torch-free."""

import math
import time
from typing import Final, NamedTuple


class TimeUp(Exception):
    """`max_seconds` passed in the middle of something, which is left undone."""


class Deadline(NamedTuple):
    """at: by the monotonic clock."""

    at: float = math.inf

    @classmethod
    def after(cls, seconds: float | None) -> "Deadline":
        return cls() if seconds is None else cls(time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        return self.at - time.monotonic()

    @property
    def passed(self) -> bool:
        return self.left_s <= 0


NEVER: Final = Deadline()
