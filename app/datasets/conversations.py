"""Conversations and labels one by one, after or instead of a file."""

from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service as audit
from app.audit.service import Act
from app.datasets import attributes, copies, counts, placement, repository, service
from app.datasets.counts import Cell
from app.datasets.fingerprint import stored_signature
from app.datasets.placement import Prepared
from app.datasets.repository import LabelledRow
from app.datasets.service import DatasetBusy
from app.errors import Conflict, InvalidRequest, Problem, existing
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.infra.tables.datasets import (
    ConversationBand,
    ConversationRow,
    Dataset,
    DatasetState,
    Label,
    LabelSource,
)
from app.infra.tables.schemas import SchemaVersion
from app.infra.tables.tenants import HeldKind
from app.schemas import repository as schema_repository
from app.schemas import service as schemas
from app.tenants import share
from evaluation.contract import record
from evaluation.contract.record import unknown_label
from evaluation.contract.schema import CategorySchema, conditions


class ConversationDiffers(Conflict):
    """The dataset has another conversation with this id."""

    code = "conversation_differs"


class Appended(NamedTuple):
    """new: False where the very same conversation was there already."""

    found: LabelledRow
    new: bool


class Deleted(NamedTuple):
    """runs: whose frozen dataset it was in. model_versions: that those made; they keep what they learned."""

    id: UUID
    runs: list[UUID]
    model_versions: list[UUID]


class LabelDecision(NamedTuple):
    """category_key: None stands for none of these. schema_version_id: None only for one that came in with its
    conversation before the schema was published.
    """

    category_key: str | None
    schema_version_id: UUID | None
    source: LabelSource
    criterion: str | None = None


async def append(
    session: AsyncSession,
    scope: TenantScope,
    actor_key_id: UUID,
    dataset_id: UUID,
    prepared: Prepared,
    schema_version_id: UUID | None = None,
) -> Appended:
    """prepared: before the session's transaction, so that nobody waits for what it computes. schema_version_id: of the
    category; by default the newest.

    Raises: ConversationDiffers, DatasetBusy, InvalidRequest, NotFound, QuotaExceeded.
    """
    given = prepared.given
    dataset = await _open(session, scope, dataset_id)
    there = await repository.conversation_named(session, scope, dataset_id, given.id)
    if there is not None:
        return await _same(session, scope, there, given)
    version_id = await _check_category(session, scope, dataset, given, schema_version_id)
    size = share.size_of(messages_of(given))
    await share.hold_more(session, scope, HeldKind.conversations, dataset_id, size)
    row = await _insert(session, scope, dataset, prepared)
    label = None
    if given.labelled:
        decided = LabelDecision(given.category, version_id, LabelSource.import_, given.criterion)
        label = await _label(session, scope, dataset, row, decided, actor_key_id)
    come = Cell(row.split, given.labelled, given.category if given.labelled else None)
    dataset.counts = counts.from_stored(dataset.counts).changed(come=[come]).stored
    dataset.state = DatasetState.ready
    await session.flush()
    return Appended(LabelledRow(row, label), new=True)


async def get(session: AsyncSession, scope: TenantScope, conversation_id: UUID) -> LabelledRow:
    """Raises: NotFound."""
    row = existing(await repository.conversation(session, scope, conversation_id), "conversation")
    return LabelledRow(row, (await repository.newest_labels(session, scope, [row.id])).get(row.id))


async def delete(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID | None, conversation_id: UUID
) -> Deleted:
    """With its labels, and whatever was made from it. Runs that have not ended and were to learn from it end.

    Raises: DatasetBusy, NotFound.
    """
    dataset, found = await _locked(session, scope, conversation_id)
    row = found.conversation
    runs = await copies.lose(session, scope, dataset, row)
    models = await repository.models_of(session, scope, runs)
    dataset.counts = counts.from_stored(dataset.counts).changed(gone=[_cell(found)]).stored
    await share.give_back(session, scope, HeldKind.conversations, dataset.id, share.size_of(row.messages))
    await session.delete(row)
    await session.flush()
    deleted = Deleted(row.id, [run.id for run in runs], models)
    detail = {"dataset_id": str(dataset.id), "runs": [str(run) for run in deleted.runs]}
    detail |= {"model_versions": [str(model) for model in models]}
    act = Act("conversation.deleted", f"conversation:{row.id}", detail)
    audit.record(session, actor_key_id, scope.tenant_id, act)
    return deleted


async def decide(
    session: AsyncSession,
    scope: TenantScope,
    actor_key_id: UUID,
    conversation_id: UUID,
    decision: LabelDecision,
) -> LabelledRow:
    """The newest label counts; saying the same again changes nothing. Raises: DatasetBusy, InvalidRequest, NotFound."""
    dataset, found = await _locked(session, scope, conversation_id)
    version = await _version(session, scope, dataset, decision.schema_version_id)
    _check_known(decision.category_key, schemas.content_of(version), "body.category_key")
    _check_criterion(decision.criterion, schemas.content_of(version))
    was = found.label
    if was is not None and _says(was) == decision:
        return found
    label = await _label(session, scope, dataset, found.conversation, decision, actor_key_id, was)
    after = LabelledRow(found.conversation, label)
    dataset.counts = (
        counts.from_stored(dataset.counts).changed(gone=[_cell(found)], come=[_cell(after)]).stored
    )
    await session.flush()
    return after


async def _open(session: AsyncSession, scope: TenantScope, dataset_id: UUID) -> Dataset:
    dataset = await service.settled(session, scope, dataset_id)
    if dataset.state not in (DatasetState.empty, DatasetState.ready):
        raise DatasetBusy(
            f"the dataset is {dataset.state.value}; upload its file first, or make another dataset"
        )
    return dataset


async def _locked(
    session: AsyncSession, scope: TenantScope, conversation_id: UUID
) -> tuple[Dataset, LabelledRow]:
    """Read again under the lock of its dataset, which may have waited for a change of this very conversation."""
    seen = await get(session, scope, conversation_id)
    dataset = await service.settled(session, scope, seen.conversation.dataset_id)
    return dataset, await get(session, scope, conversation_id)


async def _same(
    session: AsyncSession, scope: TenantScope, there: ConversationRow, given: record.Conversation
) -> Appended:
    """Compared with the label that it came with: a reviewer's decision since then does not make it another one."""
    newest = (await repository.newest_labels(session, scope, [there.id])).get(there.id)
    first = await repository.first_label(session, scope, there.id)
    came_with = None if first is None or first.source is not LabelSource.import_ else first
    differs = there.messages != messages_of(given) or given.labelled != (came_with is not None)
    said = (given.category, given.criterion)
    if differs or (came_with is not None and (came_with.category_key, came_with.criterion) != said):
        raise ConversationDiffers(f"the dataset has another conversation with the id {given.id!r}")
    return Appended(LabelledRow(there, newest), new=False)


async def _check_category(
    session: AsyncSession,
    scope: TenantScope,
    dataset: Dataset,
    given: record.Conversation,
    schema_version_id: UUID | None,
) -> UUID | None:
    """Returns the version that the label is one of."""
    if schema_version_id is None:
        schema, version_id = await service.definitions(session, scope, dataset.schema_id)
    else:
        version = await _version(session, scope, dataset, schema_version_id)
        schema, version_id = schemas.content_of(version), version.id
    if given.labelled and schema is not None:
        _check_known(given.category, schema, "body.category")
    return version_id


async def _version(
    session: AsyncSession, scope: TenantScope, dataset: Dataset, version_id: UUID | None
) -> SchemaVersion:
    version = None
    if version_id is not None:
        version = await schema_repository.version_by_id(session, scope, version_id)
    if version is None or version.schema_id != dataset.schema_id:
        raise _invalid("body.schema_version_id", "is not a version of the dataset's schema")
    return version


def _check_known(category: str | None, schema: CategorySchema, where: str) -> None:
    if category not in schema.answers:
        raise _invalid(where, unknown_label(category, schema))


def _check_criterion(criterion: str | None, schema: CategorySchema) -> None:
    """Of what comes in with a file it is not asked: the next edit may take a condition away, and the label stays."""
    if criterion is not None and criterion not in _criteria(schema):
        raise _invalid("body.criterion", "is not an include or exclude of that schema version, word for word")


def _criteria(schema: CategorySchema) -> set[str]:
    return {one.text for one in conditions(schema) if one.kind in ("include", "exclude")}


def _invalid(where: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{where}: {message}", problems=[Problem(where, message)])


# ------------------------------------------------------------------------------------------------------ what is written


async def _insert(
    session: AsyncSession, scope: TenantScope, dataset: Dataset, prepared: Prepared
) -> ConversationRow:
    placed = await placement.place(session, scope, dataset, prepared)
    row = ConversationRow(
        tenant_id=scope.tenant_id,
        dataset_id=dataset.id,
        external_id=prepared.given.id,
        messages=messages_of(prepared.given),
        text_sha256=prepared.text_sha256,
        signature=stored_signature(prepared.signature),
        group_id=placed.group_id,
        split=placed.split,
        **attributes.stored(prepared.given),
    )
    session.add(row)
    await session.flush()
    whose = {"dataset_id": dataset.id, "conversation_id": row.id}
    bands = [whose | {"band": band} for band in prepared.bands]
    await repository.insert_rows(session, scope, ConversationBand, bands)
    return row


async def _label(
    session: AsyncSession,
    scope: TenantScope,
    dataset: Dataset,
    row: ConversationRow,
    decided: LabelDecision,
    actor_key_id: UUID,
    was: Label | None = None,
) -> Label:
    """Always later than the one before it, whatever the clocks of two machines say."""
    now = utc_now()
    label = Label(
        tenant_id=scope.tenant_id,
        conversation_id=row.id,
        schema_id=dataset.schema_id,
        schema_version_id=decided.schema_version_id,
        category_key=decided.category_key,
        criterion=decided.criterion,
        source=decided.source,
        created_by=actor_key_id,
        created_at=now if was is None else max(now, was.created_at + timedelta(microseconds=1)),
    )
    session.add(label)
    await session.flush()
    return label


def messages_of(given: record.Conversation) -> list[dict[str, Any]]:
    """As they are stored."""
    return [{"role": m.role.value, "text": m.text} for m in given.messages]


def _says(label: Label) -> LabelDecision:
    return LabelDecision(label.category_key, label.schema_version_id, label.source, label.criterion)


def _cell(found: LabelledRow) -> Cell:
    label = found.label
    return Cell(found.conversation.split, label is not None, None if label is None else label.category_key)
