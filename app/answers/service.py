"""What people do with answers that were kept: say whether they were right, and have them forgotten."""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.answers import repository
from app.audit import service as audit
from app.audit.service import Act
from app.datasets import attributes, conversations, copies, placement
from app.datasets import repository as dataset_repository
from app.datasets import service as datasets
from app.datasets.conversations import LabelDecision
from app.datasets.placement import Prepared
from app.errors import InvalidRequest, Problem, existing
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.answers import KeptAnswer
from app.infra.tables.datasets import Dataset, LabelSource
from app.tenants import repository as tenant_repository
from evaluation.contract import record

DATASET = "feedback"  # where labels go that name no dataset


class FeedbackVerdict(NamedTuple):
    """What somebody says of an answer. category_key: the right one, where it is known; None: none of these."""

    right: bool
    knows_category: bool
    category_key: str | None
    source: LabelSource


class Feedback(NamedTuple):
    """prepared: the conversation as a dataset takes it. dataset_id: the one that was named."""

    verdict: FeedbackVerdict
    prepared: Prepared
    dataset_id: UUID | None


class Reference(NamedTuple):
    """What senders call a customer, or a conversation; both where both are given."""

    customer: str | None
    conversation: str | None


class Forgotten(NamedTuple):
    """runs: whose frozen dataset one of the conversations was in. model_versions: that those made; they keep what they
    learned."""

    answers: int
    conversations: list[UUID]
    runs: list[UUID]
    model_versions: list[UUID]


async def get(session: AsyncSession, scope: TenantScope, answer_id: UUID) -> KeptAnswer:
    """Raises: NotFound."""
    return existing(await repository.one(session, scope, answer_id), "kept answer")


def right(row: KeptAnswer, source: LabelSource) -> FeedbackVerdict:
    """What was answered is right. Raises: InvalidRequest."""
    if row.abstained or row.failure is not None:
        message = "the answer named no category; send false, and the right one as `category_key`"
        raise _invalid("body.right", message)
    return FeedbackVerdict(True, True, row.category_key, source)


def wrong(row: KeptAnswer, verdict: FeedbackVerdict) -> FeedbackVerdict:
    """As it is, where it does not contradict itself. Raises: InvalidRequest."""
    named = not row.abstained and row.failure is None
    if named and verdict.knows_category and verdict.category_key == row.category_key:
        raise _invalid(
            "body.category_key", "is what was answered; if that is right, send `right`: true alone"
        )
    return verdict


async def prepare(
    database: Database, scope: TenantScope, answer_id: UUID, dataset_id: UUID | None
) -> Prepared:
    """What takes long, before a transaction that others wait for. Raises: NotFound."""
    async with transaction(database, scope, read_only=True) as session:
        row = await get(session, scope, answer_id)
        there = None if dataset_id is not None else await _there(session, scope, row)
    target = dataset_id or (
        answer_id if there is None else there.id
    )  # one that is not there yet has nothing alike
    return await placement.prepare(database, scope, target, _conversation(row))


async def give_feedback(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID, row: KeptAnswer, feedback: Feedback
) -> KeptAnswer:
    """The newest counts. What names the right category becomes a label of the conversation, in a dataset: by default
    where its label is already, else in one named `feedback` of the schema. Every dataset of the schema that has the
    conversation gets the same label.

    row: locked. Raises: DatasetBusy, InvalidRequest, NotFound, QuotaExceeded.
    """
    before, verdict = row.feedback or {}, feedback.verdict
    said = {
        "right": verdict.right,
        "category_key": verdict.category_key,
        "labelled": verdict.knows_category,
        "source": verdict.source.value,
        "given_at": utc_now().isoformat(),
        "dataset_id": before.get("dataset_id"),
        "conversation_id": before.get("conversation_id"),
    }
    if verdict.knows_category:
        dataset = await _dataset(session, scope, actor_key_id, row, feedback.dataset_id)
        found = await conversations.append(session, scope, actor_key_id, dataset.id, feedback.prepared)
        conversation_id = found.found.conversation.id
        decision = LabelDecision(verdict.category_key, row.schema_version_id, verdict.source)
        copied = copies.id_of_copy(row.id)
        for labelled in await dataset_repository.conversations_named(session, scope, row.schema_id, copied):
            await conversations.decide(session, scope, actor_key_id, labelled, decision)
        said |= {"dataset_id": str(dataset.id), "conversation_id": str(conversation_id)}
    row.feedback = said
    await session.flush()
    return row


async def forget(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID, reference: Reference
) -> Forgotten:
    """Kept answers, and the same conversations in every dataset, with their labels. Raises: DatasetBusy."""
    asked = {
        "customer_reference": reference.customer,
        "conversation_reference": reference.conversation,
    }
    answers = await repository.remove(session, scope, **asked)
    runs: dict[UUID, None] = {}
    models: dict[UUID, None] = {}
    await copies.lose_unread(session, scope)
    found = await dataset_repository.conversations_of(session, scope, **asked)
    for conversation_id in found:
        deleted = await conversations.delete(session, scope, actor_key_id, conversation_id)
        runs |= dict.fromkeys(deleted.runs)
        models |= dict.fromkeys(deleted.model_versions)
    detail = {"answers": answers, "conversations": len(found)}
    act = Act("answers.forgotten", f"tenant:{scope.tenant_id}", detail)
    audit.record(session, actor_key_id, scope.tenant_id, act)
    return Forgotten(answers, found, list(runs), list(models))


async def _dataset(
    session: AsyncSession,
    scope: TenantScope,
    actor_key_id: UUID,
    row: KeptAnswer,
    asked: UUID | None,
) -> Dataset:
    if asked is not None:
        found = await datasets.get(session, scope, asked)
        if found.schema_id != row.schema_id:
            raise _invalid("body.dataset_id", "is a dataset of another schema than the answer's")
        return found
    await tenant_repository.lock(session, scope)  # so that two who come first make one
    there = await _there(session, scope, row)
    return there or await datasets.create(session, scope, actor_key_id, DATASET, row.schema_id)


async def _there(session: AsyncSession, scope: TenantScope, row: KeptAnswer) -> Dataset | None:
    """Where a label of it goes that names no dataset, if that is there."""
    before = (row.feedback or {}).get("dataset_id")
    found = None if before is None else await dataset_repository.dataset(session, scope, UUID(before))
    return found or await dataset_repository.dataset_named(session, scope, row.schema_id, DATASET)


def _conversation(row: KeptAnswer) -> record.Conversation:
    named = {"id": copies.id_of_copy(row.id), "conversation_reference": row.conversation_reference}
    return record.Conversation.model_validate(named | {"messages": row.messages} | attributes.shown(row))


def _invalid(where: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{where}: {message}", problems=[Problem(where, message)])
