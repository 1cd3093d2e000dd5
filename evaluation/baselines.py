"""What a user would otherwise pick, asked the same questions as a model.

Two good classifiers that cannot be steered, trained on the same labels: word counts, or the sentence embeddings of a
small model, under a linear head. They see no definition, so no edit can move them. And one that learns from nothing:
the category whose definition is nearest to what the customer says, by the same embeddings.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, islice
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from evaluation import sentence_encoder
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.inference import runner
from evaluation.inference.predictor import Prediction, Predictor
from evaluation.reporting.assembly import Baselines, Choices, StageRun, assemble
from evaluation.reporting.report import BASELINES, StageReport
from evaluation.sentence_encoder import EncoderMissing, Floats, KnownTexts, SentenceEncoder
from evaluation.suites.steerability import Suite

Encode = Callable[[Sequence[str]], Iterable[Floats]]  # a row of length 1 for each text

TFIDF, EMBEDDINGS, SIMILARITY = BASELINES
LEARNED: Final = (TFIDF, EMBEDDINGS)
SHOWN: Final = (
    "accuracy",
    "macro_f1",
    "steerability",
    "flip_accuracy",
    "invariance",
    "majority_over_selection",
)
ONE_LABEL: Final = (
    "they learn from labelled conversations of the split train, and there are none of two categories"
)
_KEPT_TEXTS: Final = 20_000  # 60 MB
_SHARPNESS: Final = 20.0  # of shares made from cosines, as models of this kind are trained with
MOST_EMBEDDED: Final = 1200  # training conversations: two minutes of one core


def missing() -> dict[str, str]:
    """What cannot be measured on this machine, and why."""
    try:
        sentence_encoder.is_there()
    except EncoderMissing as error:
        return dict.fromkeys((EMBEDDINGS, SIMILARITY), str(error))
    return {}


def none_because(reason: str) -> Baselines:
    return Baselines(left_out=dict.fromkeys(BASELINES, reason))


def measure(suite: Suite, train: Sequence[Conversation], counted: Collection[str] = ()) -> Baselines:
    """Takes processor time, up to minutes where there is much to read; for a thread where others wait.

    counted: families of edits; all where empty.
    """
    reports, left_out = reports_of(suite, train, counted)
    return Baselines(
        {f"{name}_{shown}": getattr(made, shown) for name, made in reports.items() for shown in SHOWN},
        left_out,
    )


class BaselineReports(NamedTuple):
    """By baseline. left_out: why it was not measured."""

    reports: dict[str, StageReport]
    left_out: dict[str, str]


def reports_of(suite: Suite, train: Sequence[Conversation], counted: Collection[str] = ()) -> BaselineReports:
    """As `measure`."""
    learns = len({c.category for c in train}) > 1
    left_out = {} if learns else dict.fromkeys(LEARNED, ONE_LABEL)
    asked: dict[str, Predictor] = {TFIDF: tfidf(train)} if learns else {}
    try:
        sentence_encoder.is_there()
        encode = _encode()
    except EncoderMissing as missing:
        left_out |= dict.fromkeys({EMBEDDINGS, SIMILARITY} - left_out.keys(), str(missing))
    else:
        asked |= {EMBEDDINGS: embeddings(train, suite.seed, encode)} if learns else {}
        asked[SIMILARITY] = SimilarityPredictor(encode)
    reports = {name: _report(name, predictor, suite, counted) for name, predictor in asked.items()}
    return BaselineReports(reports, left_out)


@cache
def _encode() -> Encode:
    """For the process: the gates of a model, and of one mode after the other, ask about the same texts."""
    return KnownTexts(SentenceEncoder().encode, _KEPT_TEXTS)


def _report(name: str, predictor: Predictor, suite: Suite, counted: Collection[str]) -> StageReport:
    answered = asyncio.run(runner.run(suite.questions, predictor, model=name))
    made = assemble(suite.schema.name, suite, [StageRun(name, name, answered)], Choices(counted=counted))
    return made.stages[0]


def tfidf(train: Sequence[Conversation]) -> "LinearPredictor":
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
    return LinearPredictor(words, train)


def embeddings(
    train: Sequence[Conversation], seed: int = 0, encode: Encode | None = None
) -> "LinearPredictor":
    """Raises: EncoderMissing."""
    encode = encode or SentenceEncoder().encode
    if len(train) > MOST_EMBEDDED:
        train = random.Random(seed).sample(train, MOST_EMBEDDED)
    return LinearPredictor(FunctionTransformer(encode), train)


class SimilarityPredictor:
    """The category of which the definition or an include means most nearly what the customer says. Names and excludes
    say nothing to an encoder, and nothing tells it when to answer none of these."""

    def __init__(self, encode: Encode):
        self._encode = encode

    async def predict(self, schema: CategorySchema, conversation: Conversation) -> Prediction:
        start = time.perf_counter()
        cosines = self._nearest(schema, conversation)
        likeliest = max(cosines.values())
        weights = {key: math.exp(_SHARPNESS * (cosine - likeliest)) for key, cosine in cosines.items()}
        whole = sum(weights.values())
        shares: dict[str | None, float] = dict.fromkeys(schema.answers, 0.0)
        shares |= {key: weight / whole for key, weight in weights.items()}
        return _prediction(shares, start)

    def _nearest(self, schema: CategorySchema, conversation: Conversation) -> dict[str, float]:
        own = [category.described for category in schema.categories]
        said_D, *others = self._encode([_text(conversation), *chain.from_iterable(own)])
        cosines = iter([float(one_D @ said_D) for one_D in others])
        return {key: max(islice(cosines, len(texts))) for key, texts in zip(schema.keys, own, strict=True)}


class LinearPredictor:
    """Answers like any predictor. Where its favourite is not in the schema it is given, the next best answer counts.

    features: of a list of texts, as scikit-learn's transformers are.
    """

    def __init__(self, features: Any, train: Sequence[Conversation]):
        # An index stands for each label, because scikit-learn cannot sort None (none of these) among strings.
        self.labels = sorted({c.category for c in train}, key=lambda label: (label is None, label or ""))
        self.pipeline: Pipeline = make_pipeline(features, LogisticRegression(C=10.0, max_iter=1000))
        self.pipeline.fit([_text(c) for c in train], [self.labels.index(c.category) for c in train])
        self._scores: dict[str, npt.NDArray[np.float64]] = {}

    async def predict(self, schema: CategorySchema, conversation: Conversation) -> Prediction:
        start = time.perf_counter()
        scores = self._scores_of(_text(conversation))
        by_label = {
            self.labels[int(k)]: float(p) for k, p in zip(self.pipeline.classes_, scores, strict=True)
        }
        allowed = {answer: by_label.get(answer, 0.0) for answer in schema.answers}
        return _prediction(allowed, start)

    def _scores_of(self, text: str) -> npt.NDArray[np.float64]:
        """A suite asks about one conversation under many schemas, and this reads the conversation alone."""
        if text not in self._scores:
            self._scores[text] = self.pipeline.predict_proba([text])[0]
        return self._scores[text]


def _prediction(shares: Mapping[str | None, float], start: float) -> Prediction:
    """shares: of every answer that the schema allows. start: by the performance counter."""
    category = max(shares, key=lambda answer: shares[answer])
    total = sum(shares.values())
    return Prediction(
        category=category,
        reasoning="",
        failure=None,
        evidence=(),
        decided_by=None,
        confidence=shares[category] / total if total else None,
        probabilities={answer: p / total for answer, p in shares.items()} if total else None,
        label_mass=total,
        forced_read=False,
        prompt_tokens=0,
        completion_tokens=0,
        cached_tokens=None,
        latency_s=time.perf_counter() - start,
    )


def _text(conversation: Conversation) -> str:
    return "\n".join(conversation.said)
