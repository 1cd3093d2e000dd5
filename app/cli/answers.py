"""Conversations answered through vLLM, and how an answer is shown."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from app.errors import ServingError
from app.serving.replicas import AskedModel
from app.serving.vllm import VllmEndpoint
from evaluation.contract.mode import ReasoningOrder
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.inference.model_client import DEFAULT_SENDING
from evaluation.inference.predictor import Prediction, PredictorError


class FileAnswer(NamedTuple):
    conversation: Conversation
    prediction: Prediction


async def answer(
    endpoint: VllmEndpoint,
    model: AskedModel,
    schema: CategorySchema,
    conversations: Sequence[Conversation],
) -> list[FileAnswer]:
    async with endpoint.async_client() as client:
        predictor = model.predictor(client, DEFAULT_SENDING)
        try:
            predictions = await asyncio.gather(*(predictor.predict(schema, c) for c in conversations))
        except PredictorError as error:
            raise ServingError(f"vLLM did not answer: {error}") from None
    return [FileAnswer(c, p) for c, p in zip(conversations, predictions, strict=True)]


def answer_json(answered: FileAnswer) -> dict[str, Any]:
    prediction = answered.prediction
    decided, quotes = prediction.decided_by, prediction.evidence
    return {
        "id": answered.conversation.id,
        "category": prediction.category,
        "failure": prediction.failure.value if prediction.failure else None,
        "mode": prediction.mode,
        "reasoning": prediction.reasoning,
        "reasoning_order": prediction.reasoning_order,
        "evidence": None if quotes is None else [evidence._asdict() for evidence in quotes],
        "decided_by": decided._asdict() if decided else None,
        "confidence": prediction.confidence,
        "probabilities": {key or "none_of_these": p for key, p in (prediction.probabilities or {}).items()},
        "label_mass": prediction.label_mass,
        "latency_s": round(prediction.latency_s, 4),
    }


def answer_lines(answered: FileAnswer, schema: CategorySchema) -> list[str]:
    prediction = answered.prediction
    confidence = "" if prediction.confidence is None else f"  ({prediction.confidence:.0%})"
    why = [] if prediction.reasoning is None else [f"reasoning: {prediction.reasoning or '(none)'}"]
    given = [f"answer:    {_named(prediction, schema)}{confidence}"]
    afterwards = prediction.reasoning_order is ReasoningOrder.after
    lines = [customer_line(answered.conversation), *([*given, *why] if afterwards else [*why, *given])]
    if prediction.decided_by is not None:
        lines.append(f"decided:   {prediction.decided_by.kind}: {prediction.decided_by.text}")
    return lines


def customer_line(conversation: Conversation) -> str:
    return f"customer:  {_short(' … '.join(conversation.said))}"


def _named(prediction: Prediction, schema: CategorySchema) -> str:
    if prediction.failure is not None:
        return f"unreadable ({prediction.failure.value})"
    if prediction.category is None:
        return "none of these"
    return f"{prediction.category} ({schema.category(prediction.category).name})"


def _short(text: str, limit: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
