"""What an arm answered beside what another answered to the same questions: paired differences, so that hard questions
cancel out. They are what a study of one seed can say with an interval."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, TypeAlias

from app.studies.results import OVER_SELECTION, TOKENS, over_tenants
from evaluation.contract import score
from evaluation.metrics.comparison import compare
from evaluation.metrics.measures import (
    GradedAnswers,
    Measure,
    mean,
    mean_difference,
    paired_difference,
    rate,
)

Values: TypeAlias = Sequence[bool] | Sequence[float | None]  # question by question; None: nothing to count


class ArmAnswers(NamedTuple):
    """graded: on each tenant, where its evaluation was asked. values: what else was asked, by measure."""

    graded: list[GradedAnswers]
    values: dict[str, Values]


def differences(mine: ArmAnswers, theirs: ArmAnswers, counted: Collection[str]) -> dict[str, Measure]:
    """By measure, mine minus theirs; of several tenants the mean over them. counted: families of edits."""
    shared = [name for name in mine.values if name in theirs.values]
    found = {name: _difference(mine.values[name], theirs.values[name]) for name in shared}
    of_tenants = [_on_tenant(m, t, counted) for m, t in zip(mine.graded, theirs.graded, strict=True)]
    return over_tenants(of_tenants, list(of_tenants[0])) | found if of_tenants else found


def measure_of(values: Values) -> Measure:
    """The share of what is right, or the mean of what is counted."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in known):
        return rate(sum(bool(value) for value in known), len(known))
    return mean(known)


def _on_tenant(mine: GradedAnswers, theirs: GradedAnswers, counted: Collection[str]) -> dict[str, Measure]:
    both = compare(mine, theirs, counted)
    return {
        "accuracy": both.accuracy,
        "steerability": both.steerability,
        "flip_accuracy": both.flip_accuracy,
        "invariance": both.invariance,
        OVER_SELECTION: _of_the_largest(mine, theirs),
        TOKENS: _tokens(mine, theirs),
    }


def _of_the_largest(mine: GradedAnswers, theirs: GradedAnswers) -> Measure:
    """How much more often the largest category is answered."""
    pairs = [(one, theirs.natural[key]) for key, one in mine.natural.items() if key in theirs.natural]
    largest = score.majority([one for one, _ in pairs]) if pairs else None
    return paired_difference([int(m.given == largest) - int(t.given == largest) for m, t in pairs])


def _tokens(mine: GradedAnswers, theirs: GradedAnswers) -> Measure:
    wrote = {one.item: one.completion_tokens for one in theirs.scores}
    found = [
        (mine.suite.items[one.item].conversation_id, float(one.completion_tokens - other))
        for one in mine.scores
        if one.completion_tokens is not None and (other := wrote.get(one.item)) is not None
    ]
    return mean_difference([key for key, _ in found], [difference for _, difference in found], ends=None)


def _difference(mine: Values, theirs: Values) -> Measure:
    both = [(m, t) for m, t in zip(mine, theirs, strict=True) if m is not None and t is not None]
    if all(isinstance(value, bool) for pair in both for value in pair):
        return paired_difference([int(m) - int(t) for m, t in both])
    return mean([m - t for m, t in both])
