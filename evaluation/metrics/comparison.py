"""One model beside another on the same questions: paired differences, so that hard questions cancel out."""

from collections.abc import Callable, Collection, Sequence

from pydantic import BaseModel

from evaluation.contract.score import Moved
from evaluation.metrics import measures, statistics
from evaluation.metrics.measures import GradedAnswers, Measure, Row

Pair = tuple[Row, Row]


class Answers(BaseModel):
    flip_accuracy: Measure
    invariance: Measure


class Compared(Answers):
    """Differences, this model minus the other; n counts what both answered. others: of edits that do not count."""

    accuracy: Measure
    steerability: Measure
    others: Answers
    per_family: dict[str, Answers]


def compare(now: GradedAnswers, other: GradedAnswers, counted: Collection[str]) -> Compared:
    """counted: families whose edits count in steerability, flip accuracy and invariance."""
    family_of = [perturbed.family for perturbed in now.suite.perturbations]
    both = [(now.moved[item], other.moved[item]) for item in now.moved if item in other.moved]
    pairs = [pair for pair in both if family_of[pair[0][1].perturbation] in counted]
    families = dict.fromkeys(family_of[pair[0][1].perturbation] for pair in both)
    return Compared(
        accuracy=measures.gain(now.natural, other.natural),
        steerability=_steerability(pairs, now),
        others=_answers([pair for pair in both if family_of[pair[0][1].perturbation] not in counted]),
        per_family={
            name: _answers([pair for pair in both if family_of[pair[0][1].perturbation] == name])
            for name in families
        },
        **dict(_answers(pairs)),
    )


def _answers(pairs: Sequence[Pair]) -> Answers:
    move = [pair for pair in pairs if pair[0][1].must_move]
    stay = [pair for pair in pairs if not pair[0][1].must_move]
    return Answers(
        flip_accuracy=_difference(move, lambda m: m.right_after),
        invariance=_difference(stay, lambda m: m.stayed),
    )


def _difference(pairs: Sequence[Pair], hit: Callable[[Moved], bool]) -> Measure:
    return measures.mean_difference(
        [conversation for (conversation, _), _ in pairs],
        [float(hit(mine)) - float(hit(theirs)) for (_, mine), (_, theirs) in pairs],
    )


def _steerability(pairs: Sequence[Pair], graded_answers: GradedAnswers) -> Measure:
    mine, theirs = (measures.shifting([pair[i] for pair in pairs], graded_answers.suite) for i in (0, 1))
    if mine is None or theirs is None:
        return Measure(value=None, n=len(pairs), ci95=None)
    interval = statistics.shift_difference_interval(mine, theirs)
    return Measure(value=mine.value - theirs.value, n=len(pairs), ci95=interval)
