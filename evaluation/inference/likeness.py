"""How alike what a customer says and each description of an answer are, to a sentence encoder.

Which of many descriptions a text is about is what an encoder is good at and a small base is not; conditions and none of
these are the other way round. Where such a base answers at once, both are heard: p(answer) · exp(weight · cosine). What
is compared are definitions and includes, by their nearest; names and excludes say nothing to an encoder. So an edit is
followed as soon as it is read. A base that needs none of this has no weight in its folder.
"""

import asyncio
import math
from collections.abc import Mapping
from functools import lru_cache
from statistics import fmean
from typing import Final

from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.sentence_encoder import Encoder, KnownTexts, SentenceEncoder, nearest

_KEPT: Final = (
    4096  # texts, of 1.5 kB each: the definitions of a hundred schemas, and what is asked several times
)


async def weighed(
    shares: Mapping[str | None, float], schema: CategorySchema, conversation: Conversation, weight: float
) -> dict[str | None, float]:
    """shares: of the answers, as the model has them. Returns them with the encoder heard, adding up to what they did.

    None of these is as alike as the categories are on average. A schema that asks a question of its own has answers to
    it and no descriptions of the text, and is left alone.
    """
    if schema.question is not None or len(schema.categories) < 2:
        return dict(shares)
    alike = await asyncio.to_thread(_alike, schema, conversation)
    raised = {answer: share * math.exp(weight * alike[answer]) for answer, share in shares.items()}
    scale = sum(shares.values()) / sum(raised.values())
    return {answer: share * scale for answer, share in raised.items()}


def _alike(schema: CategorySchema, conversation: Conversation) -> dict[str | None, float]:
    """Cosines, of every answer."""
    of_categories = nearest(_encoder(), schema, conversation)
    alike: dict[str | None, float] = {None: fmean(of_categories.values())}
    return alike | of_categories


@lru_cache(maxsize=1)
def _encoder() -> Encoder:
    return KnownTexts(SentenceEncoder(), _KEPT)
