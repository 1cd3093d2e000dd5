"""How alike what a customer says and each answer's descriptions are, to a small sentence encoder.

Which of many descriptions a text is about is what an encoder learns from little, and a small base hardly. Where such a
base chooses a code, both are heard: its share of an answer times the encoder's, each to a power. What is compared are
definitions and includes; names and excludes say nothing to the encoder. So an edit is followed as soon as it is read.
A base that needs none of this has none in its folder.

A description is as alike as the cosine of both means and, weighted, what each of its tokens finds nearest among the
customer's (late interaction: Khattab and Zaharia, ColBERT, 2020). `training.base.likeness` trains it.

Axes: N descriptions, C categories, S tokens of all descriptions, T tokens of one text, D width.
"""

import asyncio
import math
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate, chain
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

import numpy as np
from safetensors.numpy import load_file
from scipy.special import log_softmax

from evaluation.contract.base_note import FACTOR_A, FACTOR_B, SCALARS, TOKEN_WEIGHT
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.sentence_encoder import Floats, KnownTexts, LowRank, ReadText, SentenceEncoder

_KEPT: Final = (
    40_000  # tokens of texts, 1.5 kB each: the definitions of thirty schemas, and what is asked again
)
_ENCODERS: Final = 8  # 21 MB each beside those texts: the base's, and those of the adapters that answer now
_READING: Final = Lock()  # so that those who ask first together read the weights once


class Likeness(NamedTuple):
    """weight: the power of the encoder's share over the base's. file: what was trained."""

    weight: float
    file: Path


async def weighed(
    shares: Mapping[str | None, float], schema: CategorySchema, conversation: Conversation, likeness: Likeness
) -> dict[str | None, float]:
    """shares: of the answers, as the model has them. Returns them with the encoder heard, adding up to what they did.

    Raises: EncoderMissing.
    """
    # All of it in a thread: the first to ask reads 440 MB of weights.
    heard = await asyncio.to_thread(lambda: _trained(likeness.file).log_shares(schema, conversation))
    # The stronger of the two counts once: raised further, the same answers would be given with too much confidence.
    base_power, power = 1 / max(1.0, likeness.weight), min(1.0, likeness.weight)
    raised = {answer: share**base_power * math.exp(power * heard[answer]) for answer, share in shares.items()}
    scale = sum(shares.values()) / sum(raised.values())
    return {answer: share * scale for answer, share in raised.items()}


class TrainedLikeness:
    """Raises: EncoderMissing."""

    def __init__(self, file: Path):
        tensors: dict[str, Floats] = {name: one.astype(np.float32) for name, one in load_file(file).items()}
        self._token_weight_D = tensors[TOKEN_WEIGHT]
        self._scalar = {name: float(tensors[name]) for name in SCALARS}
        changed = [name.removesuffix(FACTOR_A) for name in tensors if name.endswith(FACTOR_A)]
        factors_scale = np.float32(self._scalar["factors_scale"])
        changes = {
            name: LowRank(tensors[name + FACTOR_A], factors_scale * tensors[name + FACTOR_B])
            for name in changed
        }
        encoder = SentenceEncoder(changes)
        self._read = KnownTexts(encoder.read, _KEPT, size=lambda one: len(one.tokens_TD))

    def log_shares(self, schema: CategorySchema, conversation: Conversation) -> dict[str | None, float]:
        """Of every answer; they add up to 1."""
        own = [category.clauses for category in schema.categories]
        said, *descriptions = self._read(["\n".join(conversation.said), *chain.from_iterable(own)])
        scalar = self._scalar
        begins = [0, *accumulate(map(len, own))][:-1]
        alike_N = self._alike(said, descriptions) * scalar["soft"]
        of_categories_C = np.logaddexp.reduceat(alike_N, begins) / scalar["soft"]
        scores = list(of_categories_C)
        if schema.none_of_these:
            mean, most = of_categories_C.mean(), of_categories_C.max()
            scores.append(scalar["none"] + scalar["none_mean"] * mean + scalar["none_most"] * most)
        shares = log_softmax(scalar["scale"] * np.array(scores))
        return dict(zip(schema.answers, map(float, shares), strict=True))

    def _alike(self, said: ReadText, descriptions: list[ReadText]) -> Floats:
        means_N = np.stack([one.mean_D for one in descriptions]) @ said.mean_D
        tokens_SD = np.concatenate([one.tokens_TD for one in descriptions]).astype(np.float32)
        nearest_S = (tokens_SD @ said.tokens_TD.astype(np.float32).T).max(axis=1)
        weights_S = np.exp(tokens_SD @ self._token_weight_D)
        begins = [0, *accumulate(len(one.tokens_TD) for one in descriptions)][:-1]
        late_N = np.add.reduceat(weights_S * nearest_S, begins) / np.add.reduceat(weights_S, begins)
        found: Floats = means_N + self._scalar["late"] * late_N
        return found


def _trained(file: Path) -> TrainedLikeness:
    with _READING:
        return _read_once(file)


@lru_cache(maxsize=_ENCODERS)
def _read_once(file: Path) -> TrainedLikeness:
    return TrainedLikeness(file)
