"""Whether answers of one time differ from those of another, and by more than chance would have it."""

from collections.abc import Mapping
from math import log, sqrt
from typing import NamedTuple

from evaluation.metrics.statistics import Interval, wilson_interval

_SMOOTHING = 0.5  # of an answer, in each cell: a category that was never answered has no logarithm
_BY_CHANCE = 0.01  # how often a difference that chance alone makes is taken for one
_Z95 = 1.959963984540054


class Shift(NamedTuple):
    """value: of the measure. by_chance: what it stays below in 99 of 100 checks where nothing has changed."""

    value: float
    by_chance: float


class Share(NamedTuple):
    hits: int
    n: int

    @property
    def value(self) -> float:
        return self.hits / self.n


class MeasuredMean(NamedTuple):
    n: int
    total: float
    squares: float

    @property
    def value(self) -> float:
        return self.total / self.n

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        variance = max(0.0, self.squares / self.n - self.value**2) * self.n / max(1, self.n - 1)
        return sqrt(variance / self.n)


class MeanDifference(NamedTuple):
    """low, high: its 95 % interval."""

    value: float
    low: float
    high: float


def stability_index(reference: Mapping[str, int], recent: Mapping[str, int]) -> Shift:
    """The population stability index, the sum over outcomes of (p - q) log(p / q).

    Where nothing has changed it is distributed as chi-squared with one degree less than there are outcomes, times
    1/n + 1/m (Yurdakul and Naranjo, "Statistical properties of the population stability index", 2020).
    """
    from scipy.special import chdtri  # takes longer to import than most commands take to run

    outcomes = sorted(reference.keys() | recent.keys())
    n, m = sum(reference.values()), sum(recent.values())
    if len(outcomes) < 2:
        return Shift(0.0, 0.0)
    smoothed = _SMOOTHING * len(outcomes)
    value = 0.0
    for outcome in outcomes:
        p = (reference.get(outcome, 0) + _SMOOTHING) / (n + smoothed)
        q = (recent.get(outcome, 0) + _SMOOTHING) / (m + smoothed)
        value += (q - p) * log(q / p)
    by_chance = float(chdtri(len(outcomes) - 1, _BY_CHANCE)) * (1 / n + 1 / m)
    return Shift(value, by_chance)


def rise(before: Share, now: Share) -> MeanDifference:
    """Of a share. Its interval: Newcombe's, from the score intervals of both."""
    low_before, high_before = _score_interval(before)
    low_now, high_now = _score_interval(now)
    value = now.value - before.value
    below = sqrt((now.value - low_now) ** 2 + (high_before - before.value) ** 2)
    above = sqrt((high_now - now.value) ** 2 + (before.value - low_before) ** 2)
    return MeanDifference(value, value - below, value + above)


def fall(before: MeasuredMean, now: MeasuredMean) -> MeanDifference:
    """Of a mean, positive where it fell."""
    value = before.value - now.value
    error = _Z95 * sqrt(before.error**2 + now.error**2)
    return MeanDifference(value, value - error, value + error)


def _score_interval(share: Share) -> Interval:
    found = wilson_interval(share.hits, share.n)
    assert found is not None  # of at least one answer
    return found
