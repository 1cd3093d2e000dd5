"""An answer as it is kept, where its tenant keeps answers."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from app.answers.writer import NewAnswer
from app.classify.live import Serving
from app.datasets import attributes
from app.datasets.conversations import messages_of
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from evaluation.contract.record import Conversation
from evaluation.inference.predictor import Prediction


def new_answer(
    answer_id: UUID, scope: TenantScope, conversation: Conversation, serving: Serving, found: Prediction
) -> NewAnswer | None:
    """found: its confidences as they are shown. None where nobody has published what was asked: a draft, or
    categories that came with the request, of which nothing is stored.
    """
    live, abstained = serving.live, serving.abstains(found)
    if live.version is None:
        return None
    row: dict[str, Any] = {
        "id": answer_id,
        "tenant_id": scope.tenant_id,
        "created_at": utc_now(),
        "schema_id": live.schema_id,
        "schema_version_id": live.version.id,
        "deployment_id": live.deployment_id,
        "model_version_id": live.model_version_id,
        "messages": messages_of(conversation),
        **attributes.stored(conversation),
        "mode": found.mode,
        "category_key": None if abstained else found.category,
        "confidence": found.confidence,
        "probabilities": _likeliest_first(found),
        "label_mass": found.label_mass,
        "abstained": abstained,
        "degraded": serving.degraded,
        "provisional": live.provisional,
        "failure": None if found.failure is None else found.failure.value,
        "reasoning": found.reasoning,
        "evidence": None if found.evidence is None else [one._asdict() for one in found.evidence],
        "decided_by": None if found.decided_by is None else found.decided_by._asdict(),
    }
    return NewAnswer(scope.tenant_id, row, sum(map(len, _words(conversation, found))))


def _words(conversation: Conversation, found: Prediction) -> Iterator[str]:
    yield from (message.text for message in conversation.messages)
    yield from (f"{name}{value}" for name, value in (conversation.metadata or {}).items())
    yield found.reasoning or ""
    yield from (one.quote for one in found.evidence or ())


def _likeliest_first(found: Prediction) -> list[dict[str, Any]] | None:
    if found.probabilities is None:
        return None
    pairs = sorted(found.probabilities.items(), key=lambda pair: -pair[1])
    return [{"category": category, "probability": probability} for category, probability in pairs]
