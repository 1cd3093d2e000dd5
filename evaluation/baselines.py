"""A good classifier that cannot be steered: word counts and a linear model, trained on the same labels.

It sees no definition, so no edit can move it. What it scores on the suite says how far accuracy alone misleads.
"""

import time
from collections.abc import Collection, Sequence

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.inference import runner
from evaluation.inference.predictor import Prediction
from evaluation.metrics.measures import Measure
from evaluation.reporting.assembly import Choices, StageRun, assemble
from evaluation.reporting.report import StageReport
from evaluation.suites.steerability import Suite

NAME = "tfidf"
SHOWN = ("accuracy", "macro_f1", "steerability", "flip_accuracy", "invariance", "majority_over_selection")


async def measure(
    suite: Suite, train: Sequence[Conversation], counted: Collection[str] = ()
) -> dict[str, Measure]:
    """The baseline's measures on the suite, named `tfidf_<measure>`."""
    stage = await examine(suite, train, counted)
    return {f"{NAME}_{name}": getattr(stage, name) for name in SHOWN}


async def examine(suite: Suite, train: Sequence[Conversation], counted: Collection[str] = ()) -> StageReport:
    """counted: families of edits; all where empty."""
    measured = await runner.run(suite.questions, TfidfPredictor(train), model=NAME)
    runs = [StageRun(NAME, NAME, measured)]
    return assemble(suite.schema.name, suite, runs, Choices(counted=counted)).stages[0]


class TfidfPredictor:
    """Answers like any predictor. Where its favourite is not in the schema it is given, the next best answer counts."""

    def __init__(self, train: Sequence[Conversation]):
        # An index stands for each label, because scikit-learn cannot sort None (none of these) among strings.
        self.labels = sorted({c.category for c in train}, key=lambda label: (label is None, label or ""))
        self.pipeline: Pipeline = make_pipeline(
            TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b"),
            LogisticRegression(C=10.0, max_iter=1000),
        )
        self.pipeline.fit([_text(c) for c in train], [self.labels.index(c.category) for c in train])

    async def predict(self, schema: CategorySchema, conversation: Conversation) -> Prediction:
        start = time.perf_counter()
        scores = self.pipeline.predict_proba([_text(conversation)])[0]
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


def _text(conversation: Conversation) -> str:
    return "\n".join(conversation.said)
