"""How alike what a customer says and each description of an answer are, to a sentence encoder.

Which of many descriptions a text is about is what an encoder is good at and a small base is not; conditions and none of
these are the other way round. Where such a base answers at once, both are heard: p(answer) · exp(weight · cosine). What
is compared are definitions and includes, by their nearest; names and excludes say nothing to an encoder. So an edit is
followed as soon as it is read. A base that needs none of this has no weight in its folder.
"""

import asyncio
import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from threading import Lock
from typing import Final

from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.sentence_encoder import Floats, SentenceEncoder

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
    own = [[category.definition, *category.includes] for category in schema.categories]
    said = " ".join(conversation.said)
    first, *others = _vectors().of([said, *(text for texts in own for text in texts)])
    cosines = iter(float(vector @ first) for vector in others)
    nearest = [max(next(cosines) for _ in texts) for texts in own]
    found: dict[str | None, float] = dict(zip(schema.keys, nearest, strict=True))
    return found | {None: sum(nearest) / len(nearest)}


class _Vectors:
    """Of texts, the last ones kept under their hashes: nobody's words stay in memory for it."""

    def __init__(self, encoder: SentenceEncoder):
        self._encoder, self._lock = encoder, Lock()
        self._known: OrderedDict[bytes, Floats] = OrderedDict()

    def of(self, texts: Sequence[str]) -> list[Floats]:
        keys = [hashlib.sha256(text.encode()).digest() for text in texts]
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        made = dict(zip(new, self._encoder.encode(list(new.values())), strict=True)) if new else {}
        found |= made
        with self._lock:
            for key in keys:
                self._known[key] = found[key]
                self._known.move_to_end(key)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return [found[key] for key in keys]


@lru_cache(maxsize=1)
def _vectors() -> _Vectors:
    return _Vectors(SentenceEncoder())
