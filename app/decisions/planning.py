"""How many options of a question stand in one prompt beside the state, and so how many prompts a call takes.

Each text is counted once, by itself: a prompt has no more tokens than its parts. What is found holds for whichever
options stand together, so no prompt is made to be tried, and what a call takes is known before anything is read.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from itertools import accumulate, islice
from typing import Final, NamedTuple

from app.classify import service as classify
from app.decisions.question import DecisionQuestion
from app.decisions.reading import Asking, too_long
from app.decisions.shown import Shown
from evaluation.contract import budget
from evaluation.contract.render import render_schema
from evaluation.contract.schema import MAX_CATEGORIES, Category, CategorySchema
from evaluation.inference.predictor import Codes

_SMALLEST: Final = CategorySchema(categories=(Category(key="0", name="0", definition="0"),))
_FEWEST: Final = 2  # options in a prompt, where there are as many
_BETWEEN: Final = "\n\n"  # the parts of a prompt, none of which holds an empty line


class ReadingPlan(NamedTuple):
    """most: options in one prompt."""

    shown: Shown
    most: int

    @property
    def reads(self) -> int:
        return len(self.shown.orders) * _reads(len(self.shown.question.options), self.most)

    def groups(self, order: Sequence[int]) -> list[Sequence[int]]:
        count = -(-len(order) // self.most)
        return [order[first::count] for first in range(count)]


def kept_of_each(groups: int, most: int) -> int:
    """How many options of each group are read once more, all of them together."""
    return max(1, most // groups)


async def plans(asking: Asking, questions: Sequence[DecisionQuestion]) -> list[ReadingPlan]:
    """Of questions that come with their options.

    Raises: ConversationTooLong, ModeNotGated, ServingError, ShareExceeded, UngatedNotAllowed, Unavailable.
    """
    if not questions:
        return []
    at, call = asking.at, asking.call
    context = await asking.ad_hoc(_SMALLEST)
    page = context.servings[0].page
    # What is long has a place, as an answer has, and lets everybody else go on.
    chars = sum(len(message.text) for message in call.state.messages) + sum(map(_chars, questions))
    beside = chars > classify.SHORT_CHARS
    place: AbstractAsyncContextManager[None] = (
        at.limits.place(context.scope, asking.urgency) if beside else nullcontext()
    )
    async with place:
        spare = await _spare(asking, await classify.prompt_of(page, call.state))
        work = (questions, call.orders, page.codes)
        laid_out = await asyncio.to_thread(_laid_out, *work) if beside else _laid_out(*work)
        counted = iter(await at.label_codes.tokens([part for one in laid_out for part in one.parts]))
    return [_plan(one, counted, spare) for one in laid_out]


class _LaidOut(NamedTuple):
    """parts: of a prompt: what is asked, which may be empty, and each option."""

    shown: Shown
    parts: list[str]


async def _spare(asking: Asking, smallest: str) -> int:
    """Tokens that are left beside the state. smallest: the prompt without a question. Raises: ConversationTooLong."""
    room = budget.room(await asking.at.label_codes.context())
    (tokens,) = await asking.at.label_codes.tokens([smallest])
    if tokens > room:
        problem = f"has {tokens} tokens without a question, and the model reads {room} at most; shorten it"
        raise too_long(asking.call.state_at, problem)
    return room - tokens


def _laid_out(questions: Sequence[DecisionQuestion], orders: int, codes: Codes) -> list[_LaidOut]:
    made = [Shown.of(question, orders) for question in questions]
    return [_LaidOut(one, list(_parts(one, codes))) for one in made]


def _parts(shown: Shown, codes: Codes) -> Iterator[str]:
    any_code = codes.texts[:1] * MAX_CATEGORIES  # each is one token
    numbers = range(len(shown.question.options))
    for first in numbers[::MAX_CATEGORIES]:
        some = numbers[first : first + MAX_CATEGORIES]
        written = codes.form.broken_up(render_schema(shown.schema(some), any_code))
        _, *parts = written.split(_BETWEEN)  # the instruction stands in the smallest prompt too
        if first == 0:
            yield "".join(parts[: -len(some)])
        yield from (option + _BETWEEN for option in parts[-len(some) :])


def _plan(laid_out: _LaidOut, counted: Iterator[int], spare: int) -> ReadingPlan:
    """counted: the tokens of the parts, which are taken from it. Raises: ConversationTooLong."""
    asked, *options = islice(counted, len(laid_out.parts))
    longest = sorted(options, reverse=True)[:MAX_CATEGORIES]
    totals = list(accumulate(longest, initial=asked))[1:]
    most, fewest = sum(total <= spare for total in totals), min(_FEWEST, len(totals))
    if most < fewest:
        problem = (
            f"has {totals[fewest - 1]} tokens with {fewest} of its options, and beside the state {spare} are left; "
            "shorten the state or the options"
        )
        raise too_long(laid_out.shown.question.where, problem)
    return ReadingPlan(laid_out.shown, most)


def _reads(options: int, most: int) -> int:
    """In one order: of all groups, and of the likeliest of each, which may have to be dealt into groups again."""
    if options <= most:
        return 1
    groups = -(-options // most)
    return groups + _reads(groups * kept_of_each(groups, most), most)


def _chars(question: DecisionQuestion) -> int:
    return len(question.text or "") + sum(
        len(one.name) + len(one.definition or "") for one in question.options
    )
