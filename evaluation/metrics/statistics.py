"""Intervals. Items of one conversation are not independent, so whole conversations are resampled.

Percentiles of few resampled conversations are too narrow, most of all where what is counted is rare: a resample never
holds an event that the sample does not. So a share, or a difference of shares, is resampled with one conversation more
at each end of what it can be, and the interval is as much wider as Student's t is wider than the normal distribution.
Where items are independent no resampling is needed, and shares and paired differences have score intervals.

Every measure of ours is a function of sums over items. So a resample is a vector of weights over conversations, all
resamples together are one matrix product, and a statistic maps sums_RM (R resamples, M sums) to values_R, nan where
the resample leaves it without a value.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from math import inf, sqrt
from statistics import NormalDist
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Floats], Floats]

RESAMPLES = 1000
LEVEL = 0.95
MIN_DEFINED = 0.5  # of the resamples must have a value, or there is no interval


SHARE, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)  # what an item can add to each


class Interval(NamedTuple):
    low: float
    high: float


def clustered_interval(
    clusters: Sequence[str],
    terms_IM: Floats,
    statistic: Statistic,
    *,
    ends: tuple[float, float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """95 % percentile interval; None with fewer than two clusters or where most resamples leave no value.

    terms_IM: what each item adds to each sum. clusters: the conversation of each item. ends: of a `ratio`, the least
    and the most that an item can add to its numerator.
    """
    names, cluster_I = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        return None
    terms_CM = np.zeros((len(names), terms_IM.shape[1]))
    np.add.at(terms_CM, cluster_I, terms_IM)
    value = float(statistic(terms_CM.sum(axis=0)[None])[0])
    if ends is not None:
        average = terms_CM[:, 1].mean()
        terms_CM = np.vstack([terms_CM, *([[end * average, average]] for end in ends)])
    weights_RC = _weights(len(terms_CM), resamples, seed)
    values_R = statistic(weights_RC @ terms_CM)
    values_R = values_R[~np.isnan(values_R)]
    if len(values_R) < MIN_DEFINED * resamples:
        return None
    found, wider = _percentiles(values_R), _wider_than_normal(len(terms_CM))
    if found is None or np.isnan(value):
        return found
    low, high = (value + wider * (end - value) for end in found)
    least, most = ends or (-inf, inf)
    return Interval(max(least, min(low, value)), min(most, max(high, value)))


def _wider_than_normal(clusters: int) -> float:
    """Source: Hesterberg, "What teachers should know about the bootstrap", arXiv 1411.5279, section 5.3."""
    from scipy.stats import t  # takes longer to import than most commands take to run

    tail = (1 + LEVEL) / 2
    return sqrt(clusters / (clusters - 1)) * float(t.ppf(tail, clusters - 1)) / NormalDist().inv_cdf(tail)


@lru_cache(maxsize=8)  # a report asks for the same ones tens of times, and drawing them is what takes long
def _weights(clusters: int, resamples: int, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(np.float64)


def ratio(sums_RM: Floats) -> Floats:
    """Sums: numerator, denominator."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(sums_RM[:, 1] > 0, sums_RM[:, 0] / sums_RM[:, 1], np.nan))


def macro_f1(sums_RM: Floats) -> Floats:
    """Sums: for K answers right_K, gold_K, given_K."""
    right_RK, gold_RK, given_RK = np.split(sums_RM, 3, axis=1)
    total_RK = gold_RK + given_RK
    f1_RK = np.where(total_RK > 0, 2 * right_RK / np.maximum(total_RK, 1), np.nan)
    return np.asarray(np.nanmean(f1_RK, axis=1))


class Shifting(NamedTuple):
    """Edits answered by a model, for rank correlations of expected and observed shifts over L cells.

    clusters: the conversation of each item. strata: of each item (edit, moving category). observed_IL sums to the
    observed shifts.
    """

    clusters: Sequence[str]
    strata: Sequence[Hashable]
    expected_L: Floats
    observed_IL: Floats

    @property
    def value(self) -> float:
        return float(_spearman(self.expected_L[None], np.round(self.observed_IL.sum(axis=0), 9)[None])[0])


def shift_interval(shifting: Shifting, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval | None:
    """Of the rank correlation.

    The suite chose how many examples of each stratum there are, so a resample keeps those numbers: within a stratum
    its weights are scaled back to the stratum's size, and the expected shifts stay. Resampling breaks ties of observed
    shifts, which lowers a rank correlation, so the resamples are centred on the value [simulated: plain percentiles of
    a model that is right 80 % of the time covered 50 %, not 95 %].
    """
    weights_RI = _stratified_weights(shifting, resamples, seed)
    if weights_RI is None:
        return None
    return _centred(_resampled(shifting, weights_RI), shifting.value)


def shift_difference_interval(
    now: Shifting, before: Shifting, *, resamples: int = RESAMPLES, seed: int = 0
) -> Interval | None:
    """Of the difference of two models' rank correlations on the same items: both see the same resamples."""
    weights_RI = _stratified_weights(now, resamples, seed)
    if weights_RI is None:
        return None
    drawn_R = _resampled(now, weights_RI) - _resampled(before, weights_RI)
    return _centred(drawn_R, now.value - before.value, widest=2)


def _stratified_weights(shifting: Shifting, resamples: int, seed: int) -> Floats | None:
    names, cluster_I = np.unique(np.asarray(shifting.clusters, dtype=object).astype(str), return_inverse=True)
    if len(names) < 2:
        return None
    number = {stratum: i for i, stratum in enumerate(dict.fromkeys(shifting.strata))}
    stratum_I = np.array([number[stratum] for stratum in shifting.strata])
    member_IS = np.eye(len(number))[stratum_I]
    weights_RI = _weights(len(names), resamples, seed)[:, cluster_I]
    drawn_RI = (weights_RI @ member_IS)[:, stratum_I]
    size_I = member_IS.sum(axis=0)[stratum_I]
    # A stratum that a resample misses keeps its examples as they are: it has no other estimate.
    return np.where(drawn_RI > 0, weights_RI * size_I / np.maximum(drawn_RI, 1), 1.0)


def _resampled(shifting: Shifting, weights_RI: Floats) -> Floats:
    # Rounded, so that sums that are equal but for the order of addition stay ties.
    observed_RL = np.round(weights_RI @ shifting.observed_IL, 9)
    return _spearman(np.broadcast_to(shifting.expected_L, observed_RL.shape), observed_RL)


def _centred(values_R: Floats, value: float, widest: float = 1) -> Interval | None:
    """widest: the largest absolute value that can be."""
    interval = _percentiles(values_R[~np.isnan(values_R)])
    if interval is None:
        return None
    centring = value - float(np.nanmean(values_R))
    low, high = (float(np.clip(end + centring, -widest, widest)) for end in interval)
    return Interval(min(low, value), max(high, value))


def _spearman(expected_RL: Floats, observed_RL: Floats) -> Floats:
    from scipy.stats import rankdata  # takes longer to import than most commands take to run

    x_RL = rankdata(expected_RL, axis=1)
    y_RL = rankdata(observed_RL, axis=1)
    x_RL -= x_RL.mean(axis=1, keepdims=True)
    y_RL -= y_RL.mean(axis=1, keepdims=True)
    spread_x_R, spread_y_R = (x_RL**2).sum(axis=1), (y_RL**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho_R = (x_RL * y_RL).sum(axis=1) / np.sqrt(spread_x_R * spread_y_R)
    constant_observed_R = (spread_y_R == 0) & (spread_x_R > 0)
    return np.asarray(np.where(constant_observed_R, 0.0, rho_R))


def _percentiles(values_R: Floats) -> Interval | None:
    if len(values_R) == 0:
        return None
    low, high = np.quantile(values_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def wilson_interval(hits: int, n: int) -> Interval | None:
    """For a plain proportion, where a bootstrap of no hits would claim certainty."""
    if n == 0:
        return None
    z = 1.959963984540054
    centre = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * float(np.sqrt(hits * (n - hits) / n + z * z / 4))
    return Interval(max(0.0, centre - half) if hits else 0.0, min(1.0, centre + half) if hits < n else 1.0)


def paired_interval(won: int, lost: int, n: int, level: float = LEVEL) -> Interval | None:
    """Of (won - lost) / n, for n independent pairs of which so many differ one way and the other.

    A score interval: the differences that a test of the observed counts does not reject. It is honest where few pairs
    differ, and not certain where none does. Source: Tango, Statistics in Medicine 17 (1998) 891-908.
    """
    if n == 0:
        return None
    z, value = NormalDist().inv_cdf((1 + level) / 2), (won - lost) / n

    def rejected(difference: float) -> bool:
        return abs(_tango(won, lost, n, difference)) > z

    return Interval(_last(rejected, -1.0, value), _last(rejected, 1.0, value))


def _tango(won: int, lost: int, n: int, difference: float) -> float:
    """How many standard errors the counts are from `difference`, by the likeliest share of losses under it."""
    b = -won - lost + (2 * n - won + lost) * difference
    c = -lost * difference * (1 - difference)
    losing = (sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * losing + difference * (1 - difference))
    distance = won - lost - n * difference
    return distance / sqrt(variance) if variance > 1e-12 else 0.0 if abs(distance) < 1e-9 else inf


def _last(rejected: Callable[[float], bool], outside: float, inside: float) -> float:
    """The farthest value that is not rejected, between one that is and one that is not."""
    if not rejected(outside):
        return outside
    for _ in range(50):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if rejected(middle) else (outside, middle)
    return inside
