"""Datasets, the files that they came from, conversations and labels, of one tenant at a time."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    Select,
    Text,
    cast,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app.datasets.attributes import AttributeFilter
from app.datasets.counts import Cell
from app.http.paging import PageRequest, Q
from app.infra.db.base import TenantOwned
from app.infra.db.clock import now
from app.infra.db.scope import TenantScope
from app.infra.tables.answers import KeptAnswer
from app.infra.tables.datasets import ConversationBand, ConversationRow, Dataset, Label, UploadRow
from app.infra.tables.runs import ModelVersion, Run
from app.infra.tables.triggers import Trigger
from evaluation.contract.overlap import HELD_OUT
from evaluation.contract.record import Split

ROWS_AT_ONCE = 500


class LabelledRow(NamedTuple):
    """label: the newest; None where there is none."""

    conversation: ConversationRow
    label: Label | None


class Alike(NamedTuple):
    """Of a conversation that may nearly repeat another. signature: None where the row is older than signatures."""

    id: UUID
    text_sha256: str
    group_id: str
    signature: bytes | None


class Sealed(NamedTuple):
    """With what its newest label says."""

    conversation: ConversationRow
    category: str | None
    criterion: str | None


async def dataset(
    session: AsyncSession, scope: TenantScope, dataset_id: UUID, *, lock: bool = False
) -> Dataset | None:
    """lock: until the end of the transaction nobody else changes it, its conversations or its counts."""
    query = select(Dataset).where(Dataset.tenant_id == scope.tenant_id, Dataset.id == dataset_id)
    return await session.scalar(query.with_for_update() if lock else query, execution_options=_FRESH)


async def datasets(
    session: AsyncSession, scope: TenantScope, paging: PageRequest, schema_id: UUID | None
) -> list[Dataset]:
    query = select(Dataset).where(Dataset.tenant_id == scope.tenant_id)
    if schema_id is not None:
        query = query.where(Dataset.schema_id == schema_id)
    return list(await session.scalars(paging.newest_first(query, Dataset.created_at, Dataset.id)))


async def is_used_by_triggers(session: AsyncSession, scope: TenantScope, dataset_id: UUID) -> bool:
    query = select(Trigger.id).where(Trigger.tenant_id == scope.tenant_id, Trigger.dataset_id == dataset_id)
    return await session.scalar(query.limit(1)) is not None


async def is_used_by_runs(session: AsyncSession, scope: TenantScope, dataset_id: UUID) -> bool:
    query = select(Run.id).where(Run.tenant_id == scope.tenant_id, Run.dataset_id == dataset_id)
    return await session.scalar(query.limit(1)) is not None


async def upload(session: AsyncSession, scope: TenantScope, dataset_id: UUID) -> UploadRow | None:
    """The newest; there is one at most that has not been completed."""
    query = select(UploadRow).where(
        UploadRow.tenant_id == scope.tenant_id, UploadRow.dataset_id == dataset_id
    )
    newest = query.order_by(UploadRow.created_at.desc(), UploadRow.id.desc()).limit(1)
    return await session.scalar(newest, execution_options=_FRESH)


async def kept_uploads(session: AsyncSession, scope: TenantScope) -> list[tuple[Dataset, UploadRow]]:
    """Of all datasets, what came as a file and is there still or is coming; both locked."""
    query = (
        select(Dataset, UploadRow)
        .join(UploadRow, UploadRow.dataset_id == Dataset.id)
        .where(
            Dataset.tenant_id == scope.tenant_id, UploadRow.tenant_id == scope.tenant_id, UploadRow.key != ""
        )
        .order_by(Dataset.id)
        .with_for_update()
    )
    return [(dataset, upload) for dataset, upload in await session.execute(query, execution_options=_FRESH)]


async def upload_keys(session: AsyncSession, scope: TenantScope, dataset_id: UUID) -> list[str]:
    query = select(UploadRow.key).where(
        UploadRow.tenant_id == scope.tenant_id, UploadRow.dataset_id == dataset_id
    )
    return [key for key in await session.scalars(query) if key]


async def delete_uploads(session: AsyncSession, scope: TenantScope, dataset_id: UUID) -> None:
    await session.execute(
        delete(UploadRow).where(UploadRow.tenant_id == scope.tenant_id, UploadRow.dataset_id == dataset_id)
    )


async def conversation(
    session: AsyncSession, scope: TenantScope, conversation_id: UUID
) -> ConversationRow | None:
    query = _conversations(scope).where(ConversationRow.id == conversation_id)
    return await session.scalar(query, execution_options=_FRESH)


async def conversation_named(
    session: AsyncSession, scope: TenantScope, dataset_id: UUID, external_id: str
) -> ConversationRow | None:
    query = _conversations(scope).where(ConversationRow.dataset_id == dataset_id)
    return await session.scalar(query.where(ConversationRow.external_id == external_id))


async def conversations_named(
    session: AsyncSession, scope: TenantScope, schema_id: UUID, external_id: str
) -> list[UUID]:
    """In every dataset of the schema; dataset by dataset."""
    query = (
        select(ConversationRow.id)
        .join(Dataset, Dataset.id == ConversationRow.dataset_id)
        .where(ConversationRow.tenant_id == scope.tenant_id, Dataset.tenant_id == scope.tenant_id)
        .where(Dataset.schema_id == schema_id, ConversationRow.external_id == external_id)
    )
    return list(await session.scalars(query.order_by(ConversationRow.dataset_id, ConversationRow.id)))


async def conversations_of(
    session: AsyncSession,
    scope: TenantScope,
    *,
    customer_reference: str | None = None,
    conversation_reference: str | None = None,
) -> list[UUID]:
    """In every dataset, by what their sender calls the customer or the conversation; dataset by dataset."""
    query = select(ConversationRow.id).where(ConversationRow.tenant_id == scope.tenant_id)
    if customer_reference is not None:
        query = query.where(ConversationRow.customer_reference == customer_reference)
    if conversation_reference is not None:
        named = (ConversationRow.external_id, ConversationRow.conversation_reference)
        query = query.where(or_(*(column == conversation_reference for column in named)))
    return list(await session.scalars(query.order_by(ConversationRow.dataset_id, ConversationRow.id)))


async def dataset_named(
    session: AsyncSession, scope: TenantScope, schema_id: UUID, name: str
) -> Dataset | None:
    """The oldest, where several have the name."""
    query = select(Dataset).where(
        Dataset.tenant_id == scope.tenant_id, Dataset.schema_id == schema_id, Dataset.name == name
    )
    return await session.scalar(query.order_by(Dataset.created_at, Dataset.id).limit(1))


async def sizes(
    session: AsyncSession,
    scope: TenantScope,
    dataset_id: UUID,
    paging: PageRequest,
    split: Split | None,
    attributes: AttributeFilter,
) -> list[int]:
    """Of the conversations of a page, in characters."""
    length = func.length(cast(ConversationRow.messages, Text))
    query = select(length).where(ConversationRow.tenant_id == scope.tenant_id)
    return list(
        await session.scalars(_page(attributes.of(query, ConversationRow), dataset_id, paging, split))
    )


async def conversations(
    session: AsyncSession,
    scope: TenantScope,
    dataset_id: UUID,
    paging: PageRequest,
    split: Split | None,
    attributes: AttributeFilter,
) -> list[LabelledRow]:
    query = attributes.of(_conversations(scope), ConversationRow)
    rows = list(await session.scalars(_page(query, dataset_id, paging, split)))
    newest = await newest_labels(session, scope, [row.id for row in rows])
    return [LabelledRow(row, newest.get(row.id)) for row in rows]


def _page(query: Q, dataset_id: UUID, paging: PageRequest, split: Split | None) -> Q:
    query = query.where(ConversationRow.dataset_id == dataset_id)
    if split is not None:
        query = query.where(ConversationRow.split == split)
    return paging.newest_first(query, ConversationRow.created_at, ConversationRow.id)


async def newest_labels(
    session: AsyncSession, scope: TenantScope, conversation_ids: Sequence[UUID]
) -> dict[UUID, Label]:
    """Of those that have one."""
    query = select(Label).where(
        Label.tenant_id == scope.tenant_id, Label.conversation_id.in_(conversation_ids)
    )
    rows = await session.scalars(query.order_by(Label.created_at, Label.id))
    return {row.conversation_id: row for row in rows}


async def first_label(session: AsyncSession, scope: TenantScope, conversation_id: UUID) -> Label | None:
    query = select(Label).where(Label.tenant_id == scope.tenant_id, Label.conversation_id == conversation_id)
    return await session.scalar(query.order_by(Label.created_at, Label.id).limit(1))


async def all_labelled(session: AsyncSession, scope: TenantScope, dataset_id: UUID) -> AsyncIterator[Sealed]:
    """Every conversation that has a label, with what its newest says, in the order of the bytes of its id."""
    name: ColumnElement[str] = ConversationRow.external_id.expression
    if session.get_bind().dialect.name == "postgresql":
        name = name.collate("C")  # its own order depends on the locale that the database was made with
    query = (
        select(ConversationRow, _of_newest(scope, Label.category_key), _of_newest(scope, Label.criterion))
        .where(
            ConversationRow.tenant_id == scope.tenant_id,
            ConversationRow.dataset_id == dataset_id,
            _of_newest(scope, Label.id).is_not(None),
        )
        .order_by(name)
        .execution_options(yield_per=ROWS_AT_ONCE)
    )
    async for row in await session.stream(query):
        yield Sealed(*row)


class HeldOut(NamedTuple):
    """What its newest label says, where it has one."""

    conversation: ConversationRow
    labelled: bool
    category: str | None
    criterion: str | None


async def held_out(session: AsyncSession, scope: TenantScope, dataset_id: UUID, most: int) -> list[HeldOut]:
    """Labelled ones first, and then always the same ones."""
    labelled = _of_newest(scope, Label.id).is_not(None)
    query = (
        select(
            ConversationRow,
            labelled,
            _of_newest(scope, Label.category_key),
            _of_newest(scope, Label.criterion),
        )
        .where(
            ConversationRow.tenant_id == scope.tenant_id,
            ConversationRow.dataset_id == dataset_id,
            ConversationRow.split.in_(HELD_OUT),
        )
        .order_by(labelled.desc(), ConversationRow.text_sha256, ConversationRow.id)
        .limit(most)
    )
    return [HeldOut(row, bool(has), *label) for row, has, *label in await session.execute(query)]


async def cells(
    session: AsyncSession, scope: TenantScope, dataset_id: UUID, groups: Sequence[str] | None = None
) -> dict[Cell, int]:
    """groups: only those."""
    each = select(
        ConversationRow.split,
        _of_newest(scope, Label.id).is_not(None).label("labelled"),
        _of_newest(scope, Label.category_key).label("category_key"),
    ).where(ConversationRow.tenant_id == scope.tenant_id, ConversationRow.dataset_id == dataset_id)
    if groups is not None:
        each = each.where(ConversationRow.group_id.in_(groups))
    found = await session.execute(
        select(each.subquery(), func.count()).group_by("split", "labelled", "category_key")
    )
    return {Cell(split, bool(has), key): n for split, has, key, n in found}


async def clear(session: AsyncSession, scope: TenantScope, dataset_id: UUID) -> int:
    """Remove some conversations with their labels. Returns how many: 0 when there are none left."""
    some = (
        select(ConversationRow.id)
        .where(ConversationRow.tenant_id == scope.tenant_id, ConversationRow.dataset_id == dataset_id)
        .limit(ROWS_AT_ONCE * 10)
    )
    gone = await session.execute(
        delete(ConversationRow).where(
            ConversationRow.tenant_id == scope.tenant_id, ConversationRow.id.in_(some)
        ),
        execution_options={"synchronize_session": False},
    )
    return int(getattr(gone, "rowcount", 0))


async def insert_rows(
    session: AsyncSession, scope: TenantScope, table: type[TenantOwned], rows: Sequence[Mapping[str, Any]]
) -> None:
    """rows: every column that has no default, but for the tenant."""
    if rows:
        await session.execute(insert(table), [{**row, "tenant_id": scope.tenant_id} for row in rows])


async def alike(
    session: AsyncSession, scope: TenantScope, dataset_id: UUID, bands: Iterable[int], limit: int
) -> list[Alike]:
    """Conversations that share a band at least, those that share most of them first, without their texts."""
    shared = func.count()
    found = (
        select(ConversationBand.conversation_id, shared.label("shared"))
        .where(
            ConversationBand.tenant_id == scope.tenant_id,
            ConversationBand.dataset_id == dataset_id,
            ConversationBand.band.in_(list(bands)),
        )
        .group_by(ConversationBand.conversation_id)
        .order_by(shared.desc(), ConversationBand.conversation_id)
        .limit(limit)
        .subquery()
    )
    query = (
        select(
            ConversationRow.id,
            ConversationRow.text_sha256,
            ConversationRow.group_id,
            ConversationRow.signature,
        )
        .where(ConversationRow.tenant_id == scope.tenant_id)
        .join(found, found.c.conversation_id == ConversationRow.id)
        .order_by(found.c.shared.desc(), ConversationRow.id)
    )
    return [Alike(*row) for row in await session.execute(query)]


async def messages_of(
    session: AsyncSession, scope: TenantScope, conversation_ids: Sequence[UUID]
) -> dict[UUID, list[dict[str, Any]]]:
    query = select(ConversationRow.id, ConversationRow.messages)
    query = query.where(
        ConversationRow.tenant_id == scope.tenant_id, ConversationRow.id.in_(conversation_ids)
    )
    return {row[0]: row[1] for row in await session.execute(query)}


async def sign(session: AsyncSession, scope: TenantScope, signatures: Mapping[UUID, bytes]) -> None:
    for conversation_id, signature in signatures.items():
        statement = update(ConversationRow).where(ConversationRow.tenant_id == scope.tenant_id)
        await session.execute(
            statement.where(ConversationRow.id == conversation_id).values(signature=signature),
            execution_options={"synchronize_session": False},
        )


async def splits_of_groups(
    session: AsyncSession, scope: TenantScope, dataset_id: UUID, groups: Iterable[str]
) -> dict[str, Split]:
    """Of those that have a conversation."""
    query = select(ConversationRow.group_id, ConversationRow.split).distinct()
    found = await session.execute(query.where(*_in_groups(scope, dataset_id, groups)))
    return {row[0]: row[1] for row in found}


async def merge_groups(
    session: AsyncSession,
    scope: TenantScope,
    dataset_id: UUID,
    groups: Iterable[str],
    into: tuple[str, Split],
) -> None:
    statement = update(ConversationRow).where(*_in_groups(scope, dataset_id, groups))
    await session.execute(
        statement.values(group_id=into[0], split=into[1]), execution_options={"synchronize_session": "fetch"}
    )


async def runs_made_with(
    session: AsyncSession, scope: TenantScope, row: ConversationRow, label: Label | None
) -> list[Run]:
    """Those that froze the dataset when this conversation was in it with a label, oldest first."""
    if label is None:
        return []
    query = select(Run).where(
        Run.tenant_id == scope.tenant_id,
        Run.dataset_id == row.dataset_id,
        Run.created_at >= label.created_at,
    )
    return list(await session.scalars(query.order_by(Run.created_at, Run.id)))


async def models_of(session: AsyncSession, scope: TenantScope, runs: Sequence[Run]) -> list[UUID]:
    """Oldest first."""
    query = select(ModelVersion.id).where(
        ModelVersion.tenant_id == scope.tenant_id, ModelVersion.run_id.in_([run.id for run in runs])
    )
    return list(await session.scalars(query.order_by(ModelVersion.created_at, ModelVersion.id)))


async def lose_rows(session: AsyncSession, scope: TenantScope, dataset_id: UUID, runs: Sequence[Run]) -> None:
    """By the database's clock, as what read them says when it did."""
    own = update(Dataset).where(Dataset.tenant_id == scope.tenant_id, Dataset.id == dataset_id)
    await session.execute(own.values(lost_rows_at=now()), execution_options=_IN_PLACE)
    held = update(Run).where(Run.tenant_id == scope.tenant_id, Run.id.in_([run.id for run in runs]))
    await session.execute(held.values(lost_rows_at=now()), execution_options=_IN_PLACE)


async def forget_answer(session: AsyncSession, scope: TenantScope, answer_id: UUID) -> int:
    """A kept answer, with its conversation. Returns the bytes that it had."""
    own = KeptAnswer.tenant_id == scope.tenant_id, KeptAnswer.id == answer_id
    gone = delete(KeptAnswer).where(*own).returning(KeptAnswer.size_bytes)
    return sum(await session.scalars(gone, execution_options=_IN_PLACE))


_FRESH = {"populate_existing": True}
_IN_PLACE = {"synchronize_session": False}


def _conversations(scope: TenantScope) -> Select[ConversationRow]:
    return select(ConversationRow).where(ConversationRow.tenant_id == scope.tenant_id)


def _in_groups(
    scope: TenantScope, dataset_id: UUID, groups: Iterable[str]
) -> tuple[ColumnElement[bool], ...]:
    return (
        ConversationRow.tenant_id == scope.tenant_id,
        ConversationRow.dataset_id == dataset_id,
        ConversationRow.group_id.in_(list(groups)),
    )


def _of_newest(scope: TenantScope, column: InstrumentedAttribute[Any]) -> ScalarSelect[Any]:
    """Of the newest label of the conversation around it.

    No join: right after an upload the planner expects one row of it, and joins then read every label for each.
    """
    query = select(column).where(
        Label.tenant_id == scope.tenant_id, Label.conversation_id == ConversationRow.id
    )
    newest = query.order_by(Label.created_at.desc(), Label.id.desc()).limit(1)
    return newest.correlate(ConversationRow).scalar_subquery()
