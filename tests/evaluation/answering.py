"""A predictor made of a plain function, for suites whose scoring needs no prompt and no server."""

from collections.abc import Callable
from typing import Final, TypeAlias

from evaluation.contract.parse import ParseFailure
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.inference.predictor import Prediction, PredictorError

NO_ANSWER: Final = "(writes no answer)"
FAILS: Final = "(the server fails)"
Answer: TypeAlias = Callable[[CategorySchema, Conversation], str | None]


class Answering:
    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    async def predict(self, schema: CategorySchema, conversation: Conversation) -> Prediction:
        category = self.answer(schema, conversation)
        if category == FAILS:
            raise PredictorError("busy")
        failure = ParseFailure.no_label if category == NO_ANSWER else None
        return Prediction(
            category=None if failure else category,
            reasoning="",
            failure=failure,
            evidence=(),
            decided_by=None,
            confidence=None,
            probabilities=None,
            label_mass=None,
            forced_read=False,
            prompt_tokens=None,
            completion_tokens=None,
            cached_tokens=None,
            latency_s=0.0,
        )
