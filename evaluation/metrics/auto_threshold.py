"""How sure an answer at once must be to stand in mode auto; the others are asked again, with reasoning.

Found where calibration is, on conversations that neither training nor the suite has seen, answered in both modes.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from evaluation.inference.predictor import Prediction
from evaluation.inference.runner import Measured, Outcome
from evaluation.metrics.calibrator import Gold, applied
from evaluation.metrics.measures import Measure, rate
from evaluation.metrics.statistics import Floats

# [simulated: where reasoning helps by up to 12 points in 100, auto is then on average 0.009 below the better mode at
# most, with 100 conversations 0.011 and with 50 0.020]
LEAST_TO_FIT: Final = 120
# Where less than this of the model's probability lies on answers at all, how it is divided among them says little.
LEAST_LABEL_MASS: Final = 0.5


class AutoThreshold(BaseModel):
    """value: answers at once whose confidence is not above it are asked again; None where it could not be found, for
    the reason given. The accuracies are of the answers that it was found on: auto's is a little too good."""

    model_config = ConfigDict(frozen=True)

    value: float | None
    reason: str | None
    n: int
    asked_again: Measure
    fast: Measure
    reasoned: Measure
    auto: Measure


def is_sure(found: Prediction, threshold: float) -> bool:
    """found: an answer at once, its confidence calibrated."""
    return _sureness(found) > threshold


def fit(
    golds: Sequence[Gold], fast: Sequence[Measured], reasoned: Sequence[Measured], temperature: float | None
) -> AutoThreshold:
    """The cheapest threshold that is worse than the best one by less than a standard error of their difference (the
    one-standard-error rule of Breiman et al., 1984), on pairs. golds: by item. temperature: of mode fast."""
    with_reasons = {m.item: m for m in reasoned if m.outcome is not Outcome.errored}
    pairs = [(m, with_reasons[m.item]) for m in fast if m.prediction and m.item in with_reasons]
    golds_N = [golds[at_once.item].category for at_once, _ in pairs]
    fast_N = np.array([_right(one, gold) for (one, _), gold in zip(pairs, golds_N, strict=True)], dtype=float)
    reasoned_N = np.array(
        [_right(other, gold) for (_, other), gold in zip(pairs, golds_N, strict=True)], dtype=float
    )
    sure_N = np.array([_sureness(applied(one.prediction, temperature)) for one, _ in pairs if one.prediction])
    few = len(pairs) < LEAST_TO_FIT
    value = None if few else _cheapest(sure_N, fast_N, reasoned_N)
    again_N = sure_N <= (np.inf if value is None else value)
    return AutoThreshold(
        value=value,
        reason=f"{len(pairs)} conversations answered in both modes; {LEAST_TO_FIT} are needed"
        if few
        else None,
        n=len(pairs),
        asked_again=_share(again_N.astype(float)),
        fast=_share(fast_N),
        reasoned=_share(reasoned_N),
        auto=_share(np.where(again_N, reasoned_N, fast_N)),
    )


def _cheapest(sure_N: Floats, fast_N: Floats, reasoned_N: Floats) -> float:
    thresholds = np.unique(np.append(0.0, np.clip(sure_N, 0.0, 1.0)))
    order_N = np.argsort(sure_N)
    gained_N = (reasoned_N - fast_N)[order_N]
    again_T = np.searchsorted(sure_N[order_N], thresholds, side="right")
    gained_T, changed_T = (
        np.append(0.0, np.cumsum(one_N))[again_T] for one_N in (gained_N, np.abs(gained_N))
    )
    best = np.argmax(gained_T)
    # Of pairs, a mean is below its standard error where the square of their sum is below the number that are not 0: in
    # whole numbers, since one answer lost is exactly one standard error and rounding must not decide about it.
    lost_T, changed_T = gained_T[best] - gained_T, np.abs(changed_T[best] - changed_T)
    return float(thresholds[np.argmax((lost_T == 0) | (lost_T**2 < changed_T))])


def _sureness(found: Prediction) -> float:
    """-1 where the answer must not stand whatever the threshold is."""
    unread = found.failure is not None or found.confidence is None
    little = found.label_mass is not None and found.label_mass < LEAST_LABEL_MASS
    return -1.0 if unread or little or found.confidence is None else found.confidence


def _right(measured: Measured, gold: str | None) -> bool:
    found = measured.prediction
    return found is not None and found.failure is None and found.category == gold


def _share(hits_N: Floats) -> Measure:
    return rate(int(hits_N.sum()), len(hits_N))
