"""Questions that come with their options. Each is shown as a category schema is: its options are the categories.

What has more options than one prompt takes is read in groups, and then once more over the likeliest of every group,
whose shares put all groups on one scale. The order in which a caller writes the options of a choice decides nothing:
they are shown in an order of their own, and on request in several, over which the probabilities are averaged.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from app.classify import service as classify
from app.classify.refusals import ConversationTooLong
from app.classify.service import Answered, ClassifyContext
from app.decisions import standing
from app.decisions.question import DecisionQuestion, Option, QuestionKind
from app.decisions.reading import Asking, Decided, behind, read, shares_of, together, tokens, too_long
from evaluation.contract.mode import ModeChoice
from evaluation.contract.schema import MAX_CATEGORIES, Category, CategorySchema
from evaluation.contract.text import folded

_FEWEST: Final = 2  # options in a prompt, where more do not fit


async def decide(asking: Asking, question: DecisionQuestion) -> Decided:
    """Raises: ConversationTooLong, ServingAway, UngatedNotAllowed."""
    orders = orders_of(question, asking.call.orders)
    shown = _Shown(question, _distinct([one.name for one in question.options]))
    found = await together([_in_order(asking, shown, order) for order in orders])
    reads = [answered for one in found for answered in one.reads]
    probabilities = tuple(
        sum(one.shares[number] for one in found) / len(found) for number in range(len(question.options))
    )
    return Decided(question.options, probabilities, behind(reads, len(orders)), tokens(reads))


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


def on_one_scale(groups: Sequence[Mapping[int, float]], last: Mapping[int, float]) -> dict[int, float]:
    """Shares of all options that add up to 1. last: the shares of the likeliest of every group in one read."""
    made: dict[int, float] = {}
    for group in groups:
        in_both = [number for number in group if number in last]
        scale = sum(last[number] for number in in_both) / sum(group[number] for number in in_both)
        made |= {number: last.get(number, share * scale) for number, share in group.items()}
    whole = sum(made.values())
    return {number: share / whole for number, share in made.items()}


class _Shown(NamedTuple):
    """names: of the options, no two of which a reader takes for one."""

    question: DecisionQuestion
    names: list[str]

    def schema(self, numbers: Sequence[int]) -> CategorySchema:
        categories = tuple(
            Category(key=str(number), name=self.names[number], definition=_definition(option))
            for number in numbers
            for option in [self.question.options[number]]
        )
        return CategorySchema(name="question", question=self.question.text, categories=categories)


class _Found(NamedTuple):
    """shares: by the number of the option."""

    shares: Mapping[int, float]
    reads: list[Answered]


async def _in_order(asking: Asking, shown: _Shown, order: Sequence[int]) -> _Found:
    """Raises: ConversationTooLong, ServingAway."""
    contexts, most = await _groups(asking, shown, order)
    reads = await together([read(asking, context, shown.question) for context in contexts])
    groups = [_by_number(answered) for answered in reads]
    if len(groups) == 1:
        return _Found(groups[0], reads)
    each = max(1, most // len(groups))
    kept = {number for group in groups for number in sorted(group, key=lambda n: -group[n])[:each]}
    last = await _in_order(asking, shown, [number for number in order if number in kept])
    return _Found(on_one_scale(groups, last.shares), [*reads, *last.reads])


async def _groups(asking: Asking, shown: _Shown, order: Sequence[int]) -> tuple[list[ClassifyContext], int]:
    """As few as there are codes for, and as fit; and how many options one may have. Raises: ConversationTooLong."""
    most = MAX_CATEGORIES
    while True:
        count = -(-len(order) // most)
        try:
            return [await _context(asking, shown, order[first::count]) for first in range(count)], most
        except ConversationTooLong as error:
            most = min(most, len(order)) // 2
            if most < _FEWEST:
                raise too_long(shown.question, error) from None


async def _context(asking: Asking, shown: _Shown, numbers: Sequence[int]) -> ClassifyContext:
    """Raises: ConversationTooLong."""
    at, call = asking.at, asking.call
    schema, mode = shown.schema(numbers), call.mode or ModeChoice.fast
    context = await standing.ad_hoc(at, asking.origin, schema, mode)
    await classify.check_length(at, context.servings[0], call.state)
    return context


def _by_number(answered: Answered) -> dict[int, float]:
    return {int(str(key)): share for key, share in shares_of(answered).items()}


def _place(option: Option) -> tuple[str, str, bool]:
    return _definition(option), option.name, isinstance(option.value, bool)


def _definition(option: Option) -> str:
    return option.definition or option.name


def _distinct(names: Sequence[str]) -> list[str]:
    """What a reader could not tell apart, such as true and "true", gets a number behind it."""
    made: list[str] = []
    seen: set[str] = set()
    for name in names:
        shown, turn = name, 2
        while folded(shown) in seen:
            shown, turn = f"{name[:180]} ({turn})", turn + 1
        seen.add(folded(shown))
        made.append(shown)
    return made
