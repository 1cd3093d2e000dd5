"""How answers are scored. Pure, on plain values: what the intervals resample lives in `evaluation.metrics.statistics`.

None (none of these) is an answer of its own. An answer that could not be read is UNPARSABLE: wrong everywhere, and
never the same as None. A measure over nothing raises, because it has no value.
"""

from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple, Protocol, TypeAlias

from evaluation.contract.parse import ParseFailure


class Unparsable(Enum):
    answer = "unparsable"


UNPARSABLE: Final = Unparsable.answer
Given: TypeAlias = str | Unparsable | None


class Read(Protocol):
    """What was read of an answer, in whatever it is kept."""

    @property
    def category(self) -> str | None: ...

    @property
    def failure(self) -> ParseFailure | None: ...


def given(answer: Read) -> Given:
    return answer.category if answer.failure is None else UNPARSABLE


def is_right(answer: Read, gold: str | None) -> bool:
    """gold: None for none of these."""
    return given(answer) == gold


class NothingMeasured(ValueError):
    """A measure was asked of no examples at all."""


class Graded(NamedTuple):
    gold: str | None
    given: Given

    @property
    def right(self) -> bool:
        return self.given == self.gold


class Moved(NamedTuple):
    """One conversation under S and under the perturbed S_p."""

    perturbation: int
    gold_before: str | None
    gold_after: str | None
    before: Given
    after: Given
    before_followed: Given  # where the category answered under S is to be found under S_p, by its meaning

    @property
    def must_move(self) -> bool:
        return self.gold_after != self.gold_before

    @property
    def right_before(self) -> bool:
        return self.before == self.gold_before

    @property
    def right_after(self) -> bool:
        return self.after == self.gold_after

    @property
    def stayed(self) -> bool:
        """By meaning: a wrong answer under S whose definition moves away is followed, not held against the model."""
        return self.after is not UNPARSABLE and self.after == self.before_followed


class Shifts(NamedTuple):
    """Aligned over all (perturbation, answer)."""

    expected: list[float]
    observed: list[float]


def accuracy(graded: Sequence[Graded]) -> float:
    return share([j.right for j in graded])


def recalls(graded: Sequence[Graded]) -> dict[str | None, float]:
    """Of the categories that have examples."""
    gold = Counter(j.gold for j in graded)
    right = Counter(j.gold for j in graded if j.right)
    return {category: right[category] / count for category, count in gold.items()}


def macro_f1(graded: Sequence[Graded]) -> float:
    """Mean over every category that is gold or answered at least once."""
    if not graded:
        raise NothingMeasured("macro-F1 of no examples")
    gold = Counter(j.gold for j in graded)
    given = Counter(j.given for j in graded if not isinstance(j.given, Unparsable))
    right = Counter(j.gold for j in graded if j.right)
    categories = gold.keys() | given.keys()
    return sum(2 * right[c] / (gold[c] + given[c]) for c in categories) / len(categories)


def majority(graded: Sequence[Graded]) -> str | None:
    """The largest gold category; of equals the first by key, so that the choice cannot follow the predictions."""
    if not graded:
        raise NothingMeasured("the majority of no examples")
    gold = Counter(j.gold for j in graded)
    return min(gold, key=lambda category: (-gold[category], category or ""))


def over_selection(graded: Sequence[Graded]) -> float:
    """Predicted share of the largest gold category minus its gold share."""
    largest = majority(graded)
    return sum((j.given == largest) - (j.gold == largest) for j in graded) / len(graded)


def flip_accuracy(moved: Sequence[Moved]) -> float:
    """Of the examples that must move, the share that moved to the right place."""
    return share([m.right_after for m in moved if m.must_move])


def invariance(moved: Sequence[Moved]) -> float:
    """Of the examples that must not move, the share that stayed."""
    return share([m.stayed for m in moved if not m.must_move])


def override_rate(moved: Sequence[Moved]) -> float:
    """Right after the change among those that must move and were right before it."""
    return share([m.right_after for m in moved if m.must_move and m.right_before])


def shifts(moved: Sequence[Moved], answers: Sequence[Sequence[str | None]]) -> Shifts:
    """answers[p]: those whose shares are compared."""
    expected, observed = [], []
    for perturbation, allowed in enumerate(answers):
        measured = [m for m in moved if m.perturbation == perturbation]
        for answer in allowed if measured else ():
            expected.append(
                sum((m.gold_after == answer) - (m.gold_before == answer) for m in measured) / len(measured)
            )
            observed.append(sum((m.after == answer) - (m.before == answer) for m in measured) / len(measured))
    return Shifts(expected, observed)


def steerability(moved: Sequence[Moved], answers: Sequence[Sequence[str | None]]) -> float:
    return spearman(*shifts(moved, answers))


def spearman(expected: Sequence[float], observed: Sequence[float]) -> float:
    """Rank correlation with average ranks for ties; 0 where `observed` is constant.

    Raises: NothingMeasured where `expected` is constant: no perturbation asked for a shift.
    """
    if len(set(expected)) < 2:
        raise NothingMeasured("no perturbation asks for a shift of the answers")
    if len(set(observed)) < 2:
        return 0.0
    from scipy.stats import spearmanr  # takes longer to import than most commands take to run

    return float(spearmanr(expected, observed).statistic)


def share(hits: Sequence[bool]) -> float:
    if not hits:
        raise NothingMeasured("a share of no examples")
    return sum(hits) / len(hits)
