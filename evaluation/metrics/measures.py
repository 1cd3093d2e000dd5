"""Every measure of one stage, each with its value, the number of examples behind it and a 95 % interval.

Values come from the pure functions of `evaluation.contract.score`; intervals resample the same sums.
"""

from collections import Counter
from collections.abc import Callable, Container, Sequence
from statistics import fmean
from typing import TypeAlias, TypeVar

import numpy as np
from pydantic import BaseModel

from evaluation.contract import score
from evaluation.contract.score import UNPARSABLE, Graded, Moved, NothingMeasured, Unparsable
from evaluation.inference.runner import Outcome
from evaluation.metrics import statistics
from evaluation.metrics.sample_scores import SampleScore
from evaluation.metrics.statistics import (
    DIFFERENCE,
    SHARE,
    Floats,
    Interval,
    Shifting,
    Statistic,
    clustered_interval,
    paired_interval,
    wilson_interval,
)
from evaluation.suites.steerability import Suite

Scored = TypeVar("Scored", Graded, Moved)


class Measure(BaseModel):
    """`value` None: nothing to measure, which is not 0.

    paired: of a difference over n independent pairs, how many were won and lost; its interval can be had at any level.
    """

    value: float | None
    n: int
    ci95: tuple[float, float] | None
    paired: tuple[int, int] | None = None


Row: TypeAlias = tuple[str, Moved]  # with the id of its conversation


class GradedAnswers:
    """What a stage answered, joined with what was right. Errored items, and items whose counterpart under the
    unperturbed schema errored or was not asked, are in none of it.

    moved: by item.
    """

    def __init__(self, suite: Suite, scores: Sequence[SampleScore], threshold: float | None = None):
        """threshold: below this confidence the answer is none of these, as in traffic."""
        self.suite = suite
        self.scores = scores
        self.graded: dict[str, Graded] = {}
        self.natural: dict[str, Graded] = {}
        self.moved: dict[int, Row] = {}
        given = {s.item: s.given(threshold) for s in scores if s.outcome is not Outcome.errored}
        for index, item in enumerate(suite.items):
            if index in given and item.perturbation == 0:
                graded = Graded(item.gold_before, given[index])
                self.graded[item.conversation_id] = graded
                if item.natural:
                    self.natural[item.conversation_id] = graded
        for index, item in enumerate(suite.items):
            if index in given and item.perturbation and item.conversation_id in self.graded:
                before = self.graded[item.conversation_id].given
                gold = suite.perturbations[item.perturbation].gold
                followed = before if before is UNPARSABLE else gold(before, item.conversation_id)
                moved = Moved(
                    item.perturbation, item.gold_before, item.gold_after, before, given[index], followed
                )
                self.moved[index] = (item.conversation_id, moved)

    def rows(self, families: Container[str]) -> list[Row]:
        """Of the edits of these families."""
        edits = self.suite.perturbations
        return [row for row in self.moved.values() if edits[row[1].perturbation].family in families]


def rate(hits: int, n: int) -> Measure:
    return Measure(value=hits / n if n else None, n=n, ci95=wilson_interval(hits, n))


def mean(values: Sequence[float]) -> Measure:
    clusters = [str(i) for i in range(len(values))]
    terms = np.array([[value, 1.0] for value in values]).reshape(-1, 2)
    ci95 = clustered_interval(clusters, terms, statistics.ratio)
    return Measure(value=fmean(values) if values else None, n=len(values), ci95=ci95)


def share_of_moved(
    rows: Sequence[Row],
    score_of: Callable[[Sequence[Moved]], float],
    counted: Callable[[Moved], bool],
    hit: Callable[[Moved], bool],
) -> Measure:
    kept = [(conversation, moved) for conversation, moved in rows if counted(moved)]
    terms = np.array([[hit(moved), 1.0] for _, moved in kept], dtype=np.float64).reshape(-1, 2)
    return _measure([c for c, _ in kept], [m for _, m in kept], score_of, terms, statistics.ratio, SHARE)


def flip_accuracy(rows: Sequence[Row]) -> Measure:
    return share_of_moved(rows, score.flip_accuracy, lambda m: m.must_move, lambda m: m.right_after)


def invariance(rows: Sequence[Row]) -> Measure:
    return share_of_moved(rows, score.invariance, lambda m: not m.must_move, lambda m: m.stayed)


def override_rate(rows: Sequence[Row]) -> Measure:
    return share_of_moved(
        rows, score.override_rate, lambda m: m.must_move and m.right_before, lambda m: m.right_after
    )


def accuracy(graded: dict[str, Graded]) -> Measure:
    return rate(sum(j.right for j in graded.values()), len(graded))


def macro_f1(graded: dict[str, Graded]) -> Measure:
    answers = {j.gold for j in graded.values()} | {j.given for j in graded.values()} - {UNPARSABLE}
    columns = sorted(answers, key=str)
    rows = [
        [
            *(j.right and j.gold == a for a in columns),
            *(j.gold == a for a in columns),
            *(j.given == a for a in columns),
        ]
        for j in graded.values()
    ]
    terms = np.array(rows, dtype=np.float64).reshape(len(rows), 3 * len(columns))
    return _measure(list(graded), list(graded.values()), score.macro_f1, terms, statistics.macro_f1)


def over_selection(graded: dict[str, Graded]) -> Measure:
    largest = score.majority(list(graded.values())) if graded else None
    return paired_difference([int(j.given == largest) - int(j.gold == largest) for j in graded.values()])


def gain(now: dict[str, Graded], other: dict[str, Graded]) -> Measure:
    """Accuracy minus the other's on the same conversations, paired."""
    both = [conversation for conversation in now if conversation in other]
    return paired_difference([int(now[c].right) - int(other[c].right) for c in both])


def paired_difference(differences: Sequence[int]) -> Measure:
    """Of independent pairs, each won (1), lost (-1) or neither (0)."""
    won, lost, n = differences.count(1), differences.count(-1), len(differences)
    interval = paired_interval(won, lost, n)
    return Measure(
        value=(won - lost) / n if n else None, n=n, ci95=interval, paired=(won, lost) if n else None
    )


def mean_difference(
    conversations: Sequence[str],
    differences: Sequence[float],
    ends: tuple[float, float] | None = DIFFERENCE,
) -> Measure:
    """conversations: of each difference, the one that it comes from; some have several. ends: the least and the most
    that a difference can be; None: there are no such."""
    terms = np.array([[difference, 1.0] for difference in differences]).reshape(-1, 2)
    return Measure(
        value=fmean(differences) if differences else None,
        n=len(differences),
        ci95=clustered_interval(conversations, terms, statistics.ratio, ends=ends),
    )


def steerability(rows: Sequence[Row], suite: Suite) -> Measure:
    """n: answers under an edit, of conversations that also have one without it."""
    found = shifting(rows, suite)
    if found is None:
        return Measure(value=None, n=len(rows), ci95=None)
    answers = _answers([m for _, m in rows], suite)
    value = score.steerability([m for _, m in rows], answers)
    return Measure(value=value, n=len(rows), ci95=statistics.shift_interval(found))


def shifting(rows: Sequence[Row], suite: Suite) -> Shifting | None:
    """None where no edit asks for a shift of the answers."""
    moved = [m for _, m in rows]
    answers = _answers(moved, suite)
    expected = score.shifts(moved, answers).expected
    if len(set(expected)) < 2:
        return None
    column = {cell: i for i, cell in enumerate((p, a) for p, allowed in enumerate(answers) for a in allowed)}
    size = Counter(m.perturbation for m in moved)
    observed = np.zeros((len(rows), len(column)))
    for row, m in zip(observed, moved, strict=True):
        for given, amount in ((m.before, -1), (m.after, 1)):
            if not isinstance(given, Unparsable) and (m.perturbation, given) in column:
                row[column[m.perturbation, given]] += amount / size[m.perturbation]
    strata = [(m.perturbation, m.gold_before if m.must_move else UNPARSABLE) for m in moved]
    return Shifting([c for c, _ in rows], strata, np.array(expected), observed)


def _answers(moved: Sequence[Moved], suite: Suite) -> list[tuple[str | None, ...]]:
    present = {m.perturbation for m in moved}
    return [suite.answers(p) if p in present else () for p in range(len(suite.perturbations))]


def _measure(
    clusters: Sequence[str],
    scored: Sequence[Scored],
    score_of: Callable[[Sequence[Scored]], float],
    terms: Floats,
    statistic: Statistic,
    ends: tuple[float, float] | None = None,
) -> Measure:
    try:
        value = score_of(scored)
    except NothingMeasured:
        return Measure(value=None, n=len(scored), ci95=None)
    interval: Interval | None = clustered_interval(clusters, terms, statistic, ends=ends)
    return Measure(value=value, n=len(scored), ci95=interval)
