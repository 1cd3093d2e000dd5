"""Answers counted by the hour, and which hours of them are compared with which."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from app.triggers.measures import MeasuredMean

HOUR = timedelta(hours=1)


class Totals(NamedTuple):
    """Of some hours. outcomes: see `app.usage.service.outcome_of`. masses: of the answers whose label mass is known."""

    outcomes: Mapping[str, int]
    masses: MeasuredMean

    @property
    def answers(self) -> int:
        return sum(self.outcomes.values())


class HourTotal(NamedTuple):
    hour: datetime
    answers: int


class Period(NamedTuple):
    """Whole hours, the last one excluded."""

    first: datetime
    until: datetime


class Periods(NamedTuple):
    reference: Period
    recent: Period


class ComparedTotals(NamedTuple):
    reference: Totals
    recent: Totals


def hour_of(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def periods(hours: Sequence[HourTotal], at: datetime, window_h: int, min_answers: int) -> Periods | str:
    """The last `window_h` hours, and as many from the first answers on: more, where those hold fewer than
    `min_answers`. A sentence says why they cannot be compared.

    hours: of one model under one version, in their order; those without answers are missing.
    """
    if not hours:
        return "nothing has been answered by a deployed model yet"
    window = window_h * HOUR
    recent = Period(hour_of(at) + HOUR - window, hour_of(at) + HOUR)
    first = hours[0].hour
    until, seen = first + window, 0
    for one in hours:
        if one.hour >= until and seen >= min_answers:
            break
        seen += one.answers
        until = max(until, one.hour + HOUR)
    if seen < min_answers:
        return f"the model has given {seen} answers under this version; {min_answers} are compared at least"
    if until > recent.first:
        ready_at = until + window - HOUR
        return f"there is nothing to compare with before {ready_at:%Y-%m-%d %H:%M}Z: its first answers are too new"
    position = bisect_left(hours, recent.first, key=lambda one: one.hour)
    answers = sum(one.answers for one in hours[position:] if one.hour < recent.until)
    if answers < min_answers:
        return f"{answers} answers in the last {window_h} h; {min_answers} are compared at least"
    return Periods(Period(first, until), recent)
