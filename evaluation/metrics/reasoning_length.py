"""Whether answers with longer reasoning are right more often, or less. An unparsable answer is wrong, as everywhere."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from evaluation.metrics.calibration import of_sums, share
from evaluation.metrics.calibrator import equal_mass
from evaluation.metrics.measures import Measure
from evaluation.metrics.statistics import Floats

BINS = 4


class MeasuredLength(NamedTuple):
    """length: in characters or in completion tokens, of all answers alike; leave out those not counted."""

    conversation_id: str
    length: int
    right: bool


class LengthBin(BaseModel):
    """Both ends are lengths that occur in it."""

    model_config = ConfigDict(frozen=True)

    shortest: int
    longest: int
    accuracy: Measure


class ReasoningLength(BaseModel):
    """bins: the quartiles, shortest first; fewer where many answers have one length, which stay together.

    correlation: Spearman's, of length and being right; no value where all are right, all wrong or all of one length.
    """

    model_config = ConfigDict(frozen=True)

    bins: tuple[LengthBin, ...]
    correlation: Measure


def against_accuracy(answers: Sequence[MeasuredLength]) -> ReasoningLength:
    ids = [a.conversation_id for a in answers]
    length_N = np.array([a.length for a in answers], dtype=np.float64)
    right_N = np.array([a.right for a in answers], dtype=np.bool_)
    bin_N, made = equal_mass(length_N, BINS), []
    for number in np.unique(bin_N):
        members = np.flatnonzero(bin_N == number)
        lengths, accuracy = length_N[members], share([ids[i] for i in members], right_N[members])
        made.append(LengthBin(shortest=int(lengths.min()), longest=int(lengths.max()), accuracy=accuracy))
    _, level_N = np.unique(length_N, return_inverse=True)
    member_NL = np.eye(level_N.max(initial=0) + 1)[level_N]
    terms = np.hstack([member_NL, member_NL * right_N[:, None]])
    return ReasoningLength(bins=tuple(made), correlation=of_sums(ids, terms, _rank_correlation))


def _rank_correlation(sums_RM: Floats) -> Floats:
    """Sums: for L lengths, rising, how many answers have it and how many of those are right.

    Of two values the ranks are as good as any other two numbers, so only lengths are ranked, ties at their average.
    """
    n_RL, right_RL = np.split(sums_RM, 2, axis=1)
    n_R, right_R = n_RL.sum(axis=1), right_RL.sum(axis=1)
    rank_RL = n_RL.cumsum(axis=1) - (n_RL - 1) / 2 - (n_R[:, None] + 1) / 2  # from the mean rank
    spread_R = (n_RL * rank_RL**2).sum(axis=1) * right_R * (n_R - right_R) / n_R
    with np.errstate(invalid="ignore", divide="ignore"):
        rho_R = (right_RL * rank_RL).sum(axis=1) / np.sqrt(spread_R)
    return np.asarray(np.where(spread_R > 0, rho_R, np.nan))
