"""How alike what a customer says and each answer's descriptions are, to a small sentence encoder.

Which of many descriptions a text is about is what an encoder learns from little, and a small base hardly. Where such a
base chooses a code, both are heard: its share of an answer times the encoder's, each to a power. What is compared are
definitions and includes, and how much further an exclude goes than they do; a name says nothing to the encoder. So an
edit is followed as soon as it is read. A base that needs none of this has none in its folder.

A tenant's copy brings its labelled conversations, each as one more description of the condition that decided it (as
prototypes are of a class: Snell and others, 2017; here the nearest three). They stay with that condition wherever an
edit puts it. Where their whole category is gone, and nothing new is said in its place, they are none of these; where
their condition alone is gone, or something new is said, they are silent.

A description is as alike as the cosine of both means and, weighted, what each of its tokens finds nearest among the
customer's (late interaction: Khattab and Zaharia, ColBERT, 2020). `training.base.likeness` trains it.

Axes: N descriptions, K examples, C categories, S tokens of all descriptions, T tokens of one text, D width.
"""

import asyncio
import hashlib
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from pathlib import Path
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np
from safetensors.numpy import load_file
from scipy.special import log_softmax, logsumexp

from evaluation.contract.base_note import (
    EXAMPLE_CATEGORIES,
    EXAMPLE_CONDITIONS,
    EXAMPLES,
    FACTOR_A,
    FACTOR_B,
    KNOWN_CONDITIONS,
    NOT_THERE,
    SCALARS,
    TOKEN_WEIGHT,
    text_key,
)
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.sentence_encoder import Floats, KnownTexts, LowRank, ReadText, SentenceEncoder

_KEPT: Final = (
    40_000  # tokens of texts, 1.5 kB each: the definitions of thirty schemas, and what is asked again
)
_ENCODERS: Final = 8  # 21 MB each beside those texts: the base's, and those of the adapters that answer now
NEAREST: Final = 3  # examples of an answer that are heard
_READING: Final = Lock()  # so that those who ask first together read the weights once
_READ: Final[OrderedDict[str, "TrainedLikeness"]] = OrderedDict()  # the last ones


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


class _Examples:
    """Labelled conversations, by the rows of their means. Empty where the file has none."""

    def __init__(self, tensors: dict[str, Any]):
        """tensors: of the file; its own are taken out."""
        self.means_KD: Floats = tensors.pop(EXAMPLES, np.zeros((0, 1))).astype(np.float32)
        conditions, categories, known = (
            tensors.pop(name, np.zeros(0, np.int64)).tolist()
            for name in (EXAMPLE_CONDITIONS, EXAMPLE_CATEGORIES, KNOWN_CONDITIONS)
        )
        self._known = {text_key(None), *known}
        self._of_condition: dict[int, list[int]] = {}
        self._of_category: dict[int, list[int]] = {}
        for row, (condition, category) in enumerate(zip(conditions, categories, strict=True)):
            self._of_condition.setdefault(condition, []).append(row)
            self._of_category.setdefault(category, []).append(row)

    def rows(self, schema: CategorySchema) -> list[list[int]]:
        """Of each answer."""
        deciding = [
            {text_key(text) for text in ((None,) if answer is None else schema.category(answer).clauses)}
            for answer in schema.answers
        ]
        found = [[row for key in keys for row in self._of_condition.get(key, ())] for keys in deciding]
        said = set().union(*deciding)
        if schema.none_of_these and said <= self._known:
            there = {text_key(None), *map(text_key, schema.keys)}
            gone = [row for key, rows in self._of_category.items() if key not in there for row in rows]
            taken = {row for rows in found for row in rows}
            found[-1] += [row for row in gone if row not in taken]
        return found


class TrainedLikeness:
    """Raises: EncoderMissing."""

    def __init__(self, file: Path):
        loaded = load_file(file)
        self._examples = _Examples(loaded)
        tensors: dict[str, Floats] = {name: one.astype(np.float32) for name, one in loaded.items()}
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
        clauses = [category.clauses for category in schema.categories]
        excludes = [category.excludes for category in schema.categories]
        said, *descriptions = self._read(
            ["\n".join(conversation.said), *chain.from_iterable(clauses + excludes)]
        )
        scalar, soft = self._scalar, self._scalar["soft"]
        alike_N = self._alike(said, descriptions)
        many = sum(map(len, clauses))
        examples_A = self._nearest_examples(said, schema)
        nearest_C = self._either(self._nearest(alike_N[:many], clauses), examples_A[: len(clauses)])
        further_C = self._nearest(alike_N[many:], excludes) - nearest_C + scalar["aside_from"]
        of_categories_C = nearest_C - scalar["aside"] * np.logaddexp(0, further_C * soft) / soft
        scores = list(of_categories_C)
        if schema.none_of_these:
            mean, most = of_categories_C.mean(), of_categories_C.max()
            none = scalar["none"] + scalar["none_mean"] * mean + scalar["none_most"] * most
            scores.append(self._either(none, examples_A[-1]))
        shares = log_softmax(scalar["scale"] * np.array(scores))
        return dict(zip(schema.answers, map(float, shares), strict=True))

    def _nearest(self, alike_N: Floats, own: Sequence[Sequence[str]]) -> Floats:
        """Of the texts of each category; soft, so that several count a little more than one."""
        soft = self._scalar["soft"]
        parts = np.split(alike_N, list(accumulate(map(len, own)))[:-1])
        return np.array([logsumexp(part * soft) / soft if len(part) else NOT_THERE for part in parts])

    def _nearest_examples(self, said: ReadText, schema: CategorySchema) -> Floats:
        """How alike those of each answer are."""
        if not len(self._examples.means_KD):
            return np.full(len(schema.answers), NOT_THERE, np.float32)
        alike_K = self._examples.means_KD @ said.mean_D
        return np.array([self._of_nearest(alike_K[rows]) for rows in self._examples.rows(schema)])

    def _of_nearest(self, alike_K: Floats) -> float:
        nearest = np.sort(alike_K)[-NEAREST:]
        if not len(nearest):
            return NOT_THERE
        soft = self._scalar["soft"]
        return float(logsumexp(nearest * soft) - math.log(len(nearest))) / soft + self._scalar["example_from"]

    def _either(self, one: Floats, other: Floats) -> Floats:
        soft = self._scalar["soft"]
        found: Floats = np.logaddexp(one * soft, other * soft) / soft
        return found

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
    """By its content: the stages after SFT bring SFT's copy, and what it has read need not be read again."""
    with _READING:
        content = _sha256(file, file.stat().st_mtime_ns)
        found = _READ.pop(content, None) or TrainedLikeness(file)
        _READ[content] = found
        if len(_READ) > _ENCODERS:
            _READ.popitem(last=False)
        return found


@lru_cache(maxsize=8 * _ENCODERS)
def _sha256(file: Path, written_ns: int) -> str:  # that it is another file now is seen by its time
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
