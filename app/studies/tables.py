"""Means over seeds with their intervals, and lines of Markdown tables."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from scipy.stats import t as student

from evaluation.metrics.measures import Measure


class Mean(NamedTuple):
    """reach: half of the 95 % interval; None of a single seed."""

    value: float
    reach: float | None
    seeds: int

    def __str__(self) -> str:
        return f"{self.value:.3f}" if self.reach is None else f"{self.value:.3f} ± {self.reach:.3f}"


def mean(values: Sequence[float]) -> Mean:
    """By Student's t over the seeds."""
    if len(values) < 2:
        return Mean(values[0], None, 1)
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return Mean(statistics.fmean(values), float(student.ppf(0.975, len(values) - 1)) * spread, len(values))


def mean_of_known(values: Iterable[float | None]) -> Mean | None:
    """None where no seed has the value."""
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def head(columns: Sequence[str]) -> list[str]:
    return [line(columns), line(["---"] * len(columns))]


def with_interval(one: Measure, digits: int = 3) -> str:
    """A value, and its interval where it has one."""
    if one.value is None:
        return "–"
    interval = "" if one.ci95 is None else f" ({one.ci95[0]:.{digits}f} to {one.ci95[1]:.{digits}f})"
    return f"{one.value:.{digits}f}{interval}"


def cell(found: Mean | None) -> str:
    return "–" if found is None else str(found)


def of_seeds(found: Sequence[Measure | None], digits: int = 3) -> str:
    """Of one seed with its own interval."""
    if len(found) == 1 and found[0] is not None:
        return with_interval(found[0], digits)
    return cell(mean_of_known(one.value for one in found if one is not None))


def line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
