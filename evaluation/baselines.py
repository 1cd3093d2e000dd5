"""Good classifiers that cannot be steered, trained on the same labels: what a user would otherwise pick.

Word counts, or the sentence embeddings of a small model, under a linear head. They see no definition, so no edit can
move them. What they score on the suite says how far accuracy alone misleads.
"""

import asyncio
import random
import time
from collections.abc import Collection, Sequence
from typing import Any, Final

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
from evaluation.inference.predictor import Prediction
from evaluation.metrics.measures import Measure
from evaluation.reporting.assembly import Baselines, Choices, StageRun, assemble
from evaluation.reporting.report import BASELINES
from evaluation.sentence_encoder import EncoderMissing, SentenceEncoder
from evaluation.suites.steerability import Suite

TFIDF, EMBEDDINGS = BASELINES
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
MOST_EMBEDDED: Final = 2000  # training conversations: two minutes of one core, and a line's worth of accuracy


def missing() -> dict[str, str]:
    """What cannot be measured on this machine, and why."""
    try:
        sentence_encoder.folder()
    except EncoderMissing as error:
        return {EMBEDDINGS: str(error)}
    return {}


def none_because(reason: str) -> Baselines:
    return Baselines(left_out=dict.fromkeys(BASELINES, reason))


def measure(suite: Suite, train: Sequence[Conversation], counted: Collection[str] = ()) -> Baselines:
    """Takes processor time, up to minutes where there is much to read; for a thread where others wait.

    counted: families of edits; all where empty.
    """
    if len({c.category for c in train}) < 2:
        return none_because(ONE_LABEL)
    measures = _measured(TFIDF, tfidf(train), suite, counted)
    try:
        return Baselines(measures | _measured(EMBEDDINGS, embeddings(train, suite.seed), suite, counted))
    except EncoderMissing as missing:
        return Baselines(measures, {EMBEDDINGS: str(missing)})


def _measured(
    name: str, predictor: "LinearPredictor", suite: Suite, counted: Collection[str]
) -> dict[str, Measure]:
    answered = asyncio.run(runner.run(suite.questions, predictor, model=name))
    made = assemble(suite.schema.name, suite, [StageRun(name, name, answered)], Choices(counted=counted))
    return {f"{name}_{shown}": getattr(made.stages[0], shown) for shown in SHOWN}


def tfidf(train: Sequence[Conversation]) -> "LinearPredictor":
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
    return LinearPredictor(words, train)


def embeddings(train: Sequence[Conversation], seed: int = 0) -> "LinearPredictor":
    """Raises: EncoderMissing."""
    encoder = SentenceEncoder()
    if len(train) > MOST_EMBEDDED:
        train = random.Random(seed).sample(train, MOST_EMBEDDED)
    return LinearPredictor(FunctionTransformer(encoder.encode), train)


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
        category = max(allowed, key=lambda answer: allowed[answer])
        total = sum(allowed.values())
        return Prediction(
            category=category,
            reasoning="",
            failure=None,
            evidence=(),
            decided_by=None,
            confidence=allowed[category] / total if total else None,
            probabilities={answer: p / total for answer, p in allowed.items()} if total else None,
            label_mass=total,
            forced_read=False,
            prompt_tokens=0,
            completion_tokens=0,
            cached_tokens=None,
            latency_s=time.perf_counter() - start,
        )

    def _scores_of(self, text: str) -> npt.NDArray[np.float64]:
        """A suite asks about one conversation under many schemas, and this reads the conversation alone."""
        if text not in self._scores:
            self._scores[text] = self.pipeline.predict_proba([text])[0]
        return self._scores[text]


def _text(conversation: Conversation) -> str:
    return "\n".join(conversation.said)
