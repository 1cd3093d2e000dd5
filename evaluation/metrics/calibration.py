"""What confidences are worth on held-out data, and whether thresholds and sets chosen before keep their promise.

Of raw answers, before a tenant's threshold, and of those alone that have a confidence: see
`evaluation.metrics.calibrator`.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from evaluation.metrics import statistics
from evaluation.metrics.calibrator import (
    ALPHA,
    LEVELS,
    WANTED,
    Calibrator,
    Known,
    ReadAnswer,
    Seen,
    conformal_set,
    cumulated,
    equal_mass,
    see,
    usable,
)
from evaluation.metrics.measures import Measure, rate
from evaluation.metrics.statistics import Floats, Statistic, clustered_interval

MOST_BINS, LEAST_PER_BIN = 15, 30
AURC_LEVELS = 200


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class BeforeAfter(_Result):
    before: Measure
    after: Measure


class Bin(_Result):
    confidence: float  # mean
    accuracy: Measure


class Selected(_Result):
    """Of the answers at least as sure as the threshold. risk: the share of them that is wrong."""

    threshold: float
    coverage: float
    risk: float


class Threshold(_Result):
    """threshold: chosen where the calibrator was fitted; what follows was found on other data."""

    wanted: float
    threshold: float | None
    coverage: Measure
    precision: Measure


class ConformalSets(_Result):
    alpha: float
    quantile: float | None
    coverage: Measure
    size: Measure


class Calibration(_Result):
    """nll, brier: means over the answers; brier is the squared distance to the gold, 0 to 2.

    ece: on the confidence in the answer given, in equal-mass bins. bins: those of it after.
    """

    method: Literal["temperature", "none"]
    temperature: float
    reason: str | None
    n_fit: int
    n: int
    unparsable: int
    without_probabilities: int
    nll: BeforeAfter
    ece: BeforeAfter
    brier: BeforeAfter
    bins: tuple[Bin, ...]
    curve: tuple[Selected, ...]  # surest first
    aurc: Measure
    thresholds: tuple[Threshold, ...]
    conformal: ConformalSets


def measure(calibrator: Calibrator, held_out: Sequence[ReadAnswer]) -> Calibration:
    """held_out: of conversations that the calibrator has not seen; one may come several times."""
    read, unparsable, without = usable(held_out)
    before, after = see(read, 1.0), see(read, calibrator.temperature)
    return Calibration(
        method=calibrator.method,
        temperature=calibrator.temperature,
        reason=calibrator.reason,
        n_fit=calibrator.n,
        n=len(read),
        unparsable=unparsable,
        without_probabilities=without,
        nll=BeforeAfter(before=mean(before.ids, before.loss_N), after=mean(after.ids, after.loss_N)),
        ece=BeforeAfter(before=_ece(before), after=_ece(after)),
        brier=BeforeAfter(before=mean(before.ids, before.brier_N), after=mean(after.ids, after.brier_N)),
        bins=_bins(after),
        curve=_curve(after),
        aurc=_aurc(after),
        thresholds=tuple(
            _found(after, wanted, chosen)
            for wanted, chosen in zip(WANTED, calibrator.thresholds, strict=True)
        ),
        conformal=_conformal(read, calibrator),
    )


def mean(ids: Sequence[str], values_N: Floats) -> Measure:
    terms = np.column_stack([values_N, np.ones(len(ids))])
    return of_sums(ids, terms, statistics.ratio)


def share(ids: Sequence[str], hits_N: NDArray[np.bool_]) -> Measure:
    """By Wilson where each conversation counts once, so that no miss is not certainty."""
    if len(set(ids)) == len(ids):
        return rate(int(hits_N.sum()), len(ids))
    return mean(ids, hits_N.astype(np.float64))


def of_sums(ids: Sequence[str], terms: Floats, statistic: Statistic) -> Measure:
    value = float(statistic(terms.sum(axis=0)[None])[0]) if len(ids) else np.nan
    if np.isnan(value):
        return Measure(value=None, n=len(ids), ci95=None)
    return Measure(value=value, n=len(ids), ci95=clustered_interval(ids, terms, statistic))


def _bin_of(seen: Seen) -> NDArray[np.intp]:
    return equal_mass(seen.confidence_N, max(1, min(MOST_BINS, len(seen.ids) // LEAST_PER_BIN)))


def _ece(seen: Seen) -> Measure:
    """The sampling noise of the bins makes it too high with few answers, and resampling adds as much once more.

    So the interval is the basic one, mirrored at the value (Davison and Hinkley, 1997). It starts at 0 where answers
    as often right as confidences say would show such an ECE too (consistency resampling, Bröcker and Smith, 2007)
    [simulated: of 300 calibrated answers, mirroring alone left 0 out in half of the cases].
    """
    bin_N = _bin_of(seen)
    member_NB = np.eye(bin_N.max(initial=0) + 1)[bin_N]
    gap_N = seen.confidence_N - seen.right_N
    terms = np.column_stack([member_NB * gap_N[:, None], np.ones(len(gap_N))])
    found = of_sums(seen.ids, terms, lambda sums: np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1])
    if found.value is None or found.ci95 is None:
        return found
    low, high = (max(0.0, 2 * found.value - end) for end in reversed(found.ci95))
    if found.value <= _ece_by_chance(seen.confidence_N, member_NB):
        low = 0.0
    return found.model_copy(update={"ci95": (min(low, found.value), max(high, found.value))})


def _ece_by_chance(confidence_N: Floats, member_NB: Floats) -> float:
    """The 97.5 % quantile where confidences are true, and answers independent."""
    drawn_RN = np.random.default_rng(0).random((statistics.RESAMPLES, len(confidence_N))) < confidence_N
    gap_RB = (confidence_N - drawn_RN) @ member_NB
    return float(np.quantile(np.abs(gap_RB).sum(axis=1) / len(confidence_N), (1 + statistics.LEVEL) / 2))


def _bins(seen: Seen) -> tuple[Bin, ...]:
    bin_N, made = _bin_of(seen), []
    for number in np.unique(bin_N):
        members = np.flatnonzero(bin_N == number)
        accuracy = share([seen.ids[i] for i in members], seen.right_N[members])
        made.append(Bin(confidence=float(seen.confidence_N[members].mean()), accuracy=accuracy))
    return tuple(made)


def _curve(seen: Seen) -> tuple[Selected, ...]:
    if not seen.ids:
        return ()
    lowest_L, n_L, right_L, _ = cumulated(seen, LEVELS)
    return tuple(
        Selected(threshold=t, coverage=n / len(seen.ids), risk=(n - right) / n)
        for t, n, right in zip(lowest_L.tolist(), n_L.tolist(), right_L.tolist(), strict=True)
    )


def _aurc(seen: Seen) -> Measure:
    """Area under the risk–coverage curve (Geifman et al., 2019): the mean risk among answers at least as sure."""
    level_N = equal_mass(-seen.confidence_N, AURC_LEVELS)
    member_NL = np.eye(level_N.max(initial=0) + 1)[level_N]
    return of_sums(seen.ids, np.hstack([member_NL, member_NL * ~seen.right_N[:, None]]), _area)


def _area(sums_RM: Floats) -> Floats:
    n_RL, wrong_RL = np.split(sums_RM, 2, axis=1)
    risk_RL = wrong_RL.cumsum(axis=1) / np.maximum(n_RL.cumsum(axis=1), 1)
    return np.asarray((n_RL * risk_RL).sum(axis=1) / n_RL.sum(axis=1))


def _found(seen: Seen, wanted: float, chosen: float | None) -> Threshold:
    kept_N = seen.confidence_N >= (np.inf if chosen is None else chosen)
    ids = [i for i, kept in zip(seen.ids, kept_N, strict=True) if kept]
    coverage = share([] if chosen is None else seen.ids, kept_N)
    return Threshold(
        wanted=wanted, threshold=chosen, coverage=coverage, precision=share(ids, seen.right_N[kept_N])
    )


def _conformal(read: Sequence[Known], calibrator: Calibrator) -> ConformalSets:
    ids = [r.conversation_id for r in read]
    sets = [conformal_set(r.probabilities, calibrator.quantile, calibrator.temperature) for r in read]
    covered = np.array([r.gold in found for r, found in zip(read, sets, strict=True)], dtype=np.bool_)
    return ConformalSets(
        alpha=ALPHA,
        quantile=calibrator.quantile,
        coverage=share(ids, covered),
        size=mean(ids, np.array([float(len(found)) for found in sets])),
    )
