"""Times of a schedule in five fields, in UTC, as Celery reads them."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

FIELDS = 5
_DAY_OF_MONTH, _DAY_OF_WEEK = 2, 4
_EXAMPLE = "write five fields, such as `0 3 * * 1`: at three in the morning of every Monday, in UTC"
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def normal(text: str) -> str:
    """With one space between its fields. Raises: ValueError where it is no schedule, or names no day that comes."""
    fields = text.split()
    if len(fields) != FIELDS:
        raise ValueError(f"has {len(fields)} fields; {_EXAMPLE}")
    if "*" not in (fields[_DAY_OF_MONTH], fields[_DAY_OF_WEEK]):
        raise ValueError(
            "names days of the month and of the week, which programs read differently; name one of them"
        )
    found = " ".join(fields)
    try:
        next_after(found, _SOME_DAY)
    except (ValueError, RuntimeError) as error:  # what Celery raises is one of these
        raise ValueError(f"is no schedule that comes to pass ({error}); {_EXAMPLE}") from None
    return found


def next_after(text: str, moment: datetime) -> datetime:
    """The first time of the schedule that is later than `moment`."""
    last, delta, _now = _schedule(text).remaining_delta(moment.astimezone(UTC), tz=UTC)
    found: datetime = last + delta
    return found.replace(second=0, microsecond=0)


@lru_cache(maxsize=256)
def _schedule(text: str) -> Any:
    from celery.schedules import crontab  # takes longer to import than the API to answer

    minute, hour, day_of_month, month, day_of_week = text.split(" ")
    return crontab(minute, hour, day_of_week=day_of_week, day_of_month=day_of_month, month_of_year=month)
