"""Questions under schemas that no tenant's training has seen, asked of a model at a vLLM."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from evaluation.predictor import VllmPredictor
from training.starter.world import BenchItem


class Mark(NamedTuple):
    right: bool
    valid: bool


Ask = Callable[[VllmPredictor, BenchItem], Awaitable[Mark]]


async def plain(predictor: VllmPredictor, item: BenchItem) -> Mark:
    """A forced read is no valid answer: the model did not write it of its own accord."""
    prediction = await predictor.predict(item.schema, item.conversation)
    valid = prediction.failure is None and not prediction.forced_read
    return Mark(valid and prediction.category == item.gold, valid)


async def marks_of(
    predictor: VllmPredictor,
    items: Sequence[BenchItem],
    concurrency: int,
    done: Callable[[int], None],
    ask: Ask = plain,
) -> list[Mark]:
    """In the order of the items. done: called with the number of answers so far."""
    places = asyncio.Semaphore(concurrency)
    answered = 0

    async def one(item: BenchItem) -> Mark:
        nonlocal answered
        async with places:
            mark = await ask(predictor, item)
        answered += 1
        done(answered)
        return mark

    return await asyncio.gather(*(one(item) for item in items))


def longest(items: Sequence[BenchItem]) -> int:
    """Answers of the largest schema: as many codes are needed."""
    return max(len(item.schema.answers) for item in items)
