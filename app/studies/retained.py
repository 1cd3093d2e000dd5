"""What a base can do that no tenant taught it, and how far from the base a model has gone.

Three measures: answers under schemas of nobody who is studied; plain sentences, of whose four ends the likeliest is
chosen (per character, as HellaSwag's are); and, on prompts of everyday life, the KL from the base in nats a token, by
what the model itself draws: its log-probs minus those that the base gives to the same words.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

from pydantic import BaseModel

from app.studies.asking import draw, read, read_text
from evaluation.contract.render import ChatMessage
from evaluation.inference.predictor import Prediction, VllmPredictor
from training.starter.world import BenchItem

DRAWN_TOKENS = 48  # of a response to an everyday prompt
CHANCE = 0.25  # of a sentence's ends


class Sentence(NamedTuple):
    """ends: the right one first."""

    begins: str
    ends: tuple[str, ...]


class Ends(BaseModel):
    """Log-prob of each end of a sentence, after its beginning."""

    logprobs: list[float]


class RetainedWords(BaseModel):
    """What was drawn, with its log-probs to the model and to the base."""

    text: str
    tokens: int
    own: float
    base: float


class RetainedAnswer(BaseModel):
    """An answer under a schema, with its words."""

    category: str | None
    unreadable: bool
    forced_read: bool
    reasoning: str | None


@lru_cache(maxsize=1)
def sentences() -> tuple[Sentence, ...]:
    rows = _shipped("everyday.json")["sentences"]
    return tuple(Sentence(row["begins"], tuple(row["ends"])) for row in rows)


@lru_cache(maxsize=1)
def everyday_prompts() -> tuple[str, ...]:
    return tuple(_shipped("general.json")["prompts"])


async def ends(predictor: VllmPredictor, sentence: Sentence) -> Ends:
    begun = await read_text(predictor, sentence.begins)
    whole = [await read_text(predictor, f"{sentence.begins} {end}.") for end in sentence.ends]
    return Ends(logprobs=[one - begun for one in whole])


def rightly_ended(asked: Sequence[Sentence], found: Sequence[Ends]) -> list[bool]:
    right = []
    for sentence, of in zip(asked, found, strict=True):
        each = [logprob / len(end) for logprob, end in zip(of.logprobs, sentence.ends, strict=True)]
        right.append(each.index(max(each)) == 0)
    return right


async def drawn_words(base: VllmPredictor, predictor: VllmPredictor, prompt: str) -> RetainedWords:
    messages: list[ChatMessage] = [{"role": "user", "content": prompt}]
    found = await draw(predictor, messages, DRAWN_TOKENS)
    read_by_base = await read(base, messages, found) if found.logprobs else 0.0
    return RetainedWords(
        text=found.text, tokens=len(found.logprobs), own=sum(found.logprobs), base=read_by_base
    )


def distances(found: Sequence[RetainedWords]) -> list[float | None]:
    """Nats a token, prompt by prompt; None where nothing was drawn."""
    return [(one.own - one.base) / one.tokens if one.tokens else None for one in found]


async def under_schema(predictor: VllmPredictor, item: BenchItem) -> RetainedAnswer:
    found: Prediction = await predictor.predict(item.schema, item.conversation)
    return RetainedAnswer(
        category=found.category,
        unreadable=found.failure is not None,
        forced_read=found.forced_read,
        reasoning=found.reasoning,
    )


def rightly_answered(items: Sequence[BenchItem], found: Sequence[RetainedAnswer]) -> list[bool]:
    """A forced read is no right answer: the model did not write it of its own accord."""
    return [
        not one.unreadable and not one.forced_read and one.category == item.gold
        for item, one in zip(items, found, strict=True)
    ]


def _shipped(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((files("app.studies") / "questions" / name).read_text("utf-8"))
    return found
