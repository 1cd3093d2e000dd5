"""Questions under schemas that no tenant's training has seen, asked of a model at a vLLM."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import comb
from statistics import fmean
from typing import NamedTuple, TypeVar

from pydantic import BaseModel

from app.cli.console import Progress
from evaluation.contract.parse import parse
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.contract.score import is_right
from evaluation.inference.model_client import ROUTE, post
from evaluation.inference.predictor import VllmPredictor
from training.starter.world import BenchItem

T = TypeVar("T")
R = TypeVar("R")

SAMPLES = 8


class AnswerScore(NamedTuple):
    right: bool
    valid: bool


Ask = Callable[[VllmPredictor, BenchItem], Awaitable[AnswerScore]]


async def plain(predictor: VllmPredictor, item: BenchItem) -> AnswerScore:
    """A forced read is no valid answer: the model did not write it of its own accord."""
    prediction = await predictor.predict(item.schema, item.conversation)
    valid = prediction.failure is None and not prediction.forced_read
    return AnswerScore(valid and is_right(prediction, item.gold), valid)


async def scores_of(
    predictor: VllmPredictor,
    items: Sequence[BenchItem],
    concurrency: int,
    done: Callable[[int], None],
    ask: Ask = plain,
) -> list[AnswerScore]:
    """In the order of the items. done: called with the number of answers so far."""
    return await in_order(items, partial(ask, predictor), concurrency, done)


def counting(progress: Progress, title: str, total: int) -> Callable[[int], None]:
    """Shows how many of `total` are done."""
    return lambda done: progress.update(title, done, total)


async def in_order(
    items: Sequence[T], ask: Callable[[T], Awaitable[R]], concurrency: int, done: Callable[[int], None]
) -> list[R]:
    """Asked in the order of the items, so that a schema's prompt is read once; the answers in that order too."""
    places = asyncio.Semaphore(concurrency)
    answered = 0

    async def one(item: T) -> R:
        nonlocal answered
        async with places:
            answer = await ask(item)
        answered += 1
        done(answered)
        return answer

    return await asyncio.gather(*(one(item) for item in items))


def longest(items: Sequence[BenchItem]) -> int:
    """Answers of the largest schema: as many codes are needed."""
    return max(len(item.schema.answers) for item in items)


class Samples(BaseModel):
    """What one model answers to one question, several times."""

    texts: list[str]


async def several(predictor: VllmPredictor, schema: CategorySchema, conversation: Conversation) -> Samples:
    """SAMPLES answers at temperature 1."""
    body = predictor.request(schema, conversation) | {"temperature": 1.0, "n": SAMPLES, "logprobs": False}
    asked = {name: value for name, value in body.items() if name not in ("top_logprobs", "logprob_token_ids")}
    choices = (await post(predictor.client, ROUTE, asked))["choices"]
    return Samples(texts=[choice["message"]["content"] or "" for choice in choices])


def pass_at_k(
    schema: CategorySchema,
    codes: Sequence[str],
    conversations: Sequence[Conversation],
    found: Sequence[Samples],
) -> list[float]:
    """Share of conversations that one of k answers gets right, for k from 1 to SAMPLES.

    The unbiased estimator of Chen et al., arXiv 2107.03374: 1 - C(n - c, k) / C(n, k) for c right ones of n.
    """

    def right(conversation: Conversation, texts: Sequence[str]) -> int:
        answers = [parse(text, schema, tuple(codes[: len(schema.answers)])) for text in texts]
        return sum(is_right(answer, conversation.category) for answer in answers)

    counts = [right(one, of.texts) for one, of in zip(conversations, found, strict=True)]
    return [fmean(at_least_one(SAMPLES, c, k) for c in counts) for k in range(1, SAMPLES + 1)]


def at_least_one(n: int, right: int, k: int) -> float:
    """Chance that of k answers, drawn from n of which some are right, one is."""
    return 1 - comb(n - right, k) / comb(n, k)
