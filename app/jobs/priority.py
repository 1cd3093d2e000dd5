"""Which of one tenant's jobs begins first. Among tenants it is turns that decide."""

from enum import StrEnum


class Priority(StrEnum):
    """What begins by itself is low."""

    low = "low"
    normal = "normal"
    high = "high"

    @property
    def rank(self) -> int:
        """As the rows have it: the larger first."""
        return list(Priority).index(self) - 1

    @classmethod
    def of(cls, rank: int) -> "Priority":
        return list(cls)[rank + 1]
