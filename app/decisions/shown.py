"""A question that comes with its options as it is shown: a category schema, whose categories are the options.

The order in which a caller writes the options of a choice decides nothing: they are shown in an order of their own,
and on request in several, over which the probabilities are averaged.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.decisions.question import DecisionQuestion, Option, QuestionKind
from evaluation.contract.schema import Category, CategorySchema
from evaluation.contract.text import folded


class Shown(NamedTuple):
    """orders: of the numbers of options. names: by those numbers, no two of which a reader takes for one."""

    question: DecisionQuestion
    orders: list[list[int]]
    names: Mapping[int, str]

    @classmethod
    def of(cls, question: DecisionQuestion, orders: int) -> "Shown":
        found = orders_of(question, orders)
        return cls(question, found, _distinct(question.options, found[0]))

    def schema(self, numbers: Sequence[int]) -> CategorySchema:
        categories = tuple(
            # As it is: an option may say at once all that a category says in its definition, includes and excludes.
            Category.model_construct(key=str(number), name=self.names[number], definition=_definition(option))
            for number in numbers
            for option in [self.question.options[number]]
        )
        return CategorySchema(name="question", question=self.question.text, categories=categories)


def orders_of(question: DecisionQuestion, wanted: int) -> list[list[int]]:
    """Numbers of options. Of a choice: its own order, and that begun at other places; of a score: up, and down."""
    numbers = list(range(len(question.options)))
    if question.kind is QuestionKind.score:
        return [numbers, numbers[::-1]][: min(wanted, len(numbers))]
    if question.kind is QuestionKind.choice:
        numbers.sort(key=lambda number: _place(question.options[number]))
    count = min(wanted, len(numbers))
    starts = [turn * len(numbers) // count for turn in range(count)]
    return [numbers[start:] + numbers[:start] for start in starts]


def _place(option: Option) -> tuple[str, str, bool]:
    return _definition(option), option.name, isinstance(option.value, bool)


def _definition(option: Option) -> str:
    return option.definition or option.name


def _distinct(options: Sequence[Option], order: Sequence[int]) -> dict[int, str]:
    """What a reader could not tell apart, such as true and "true", gets a number behind it."""
    made: dict[int, str] = {}
    seen: set[str] = set()
    turns = Counter[str]()  # by name, so that the last of many twins does not try all numbers again
    for number in order:
        name = shown = options[number].name
        own = folded(name)
        while folded(shown) in seen:
            turns[own] += 1
            shown = f"{name} ({turns[own] + 1})"
        seen.add(folded(shown))
        made[number] = shown
    return made
