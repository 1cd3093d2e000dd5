"""Triggers, and what is known to judge them by."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Select, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.http.paging import PageRequest
from app.infra.db.clock import now, seconds_since
from app.infra.db.scope import TenantScope
from app.infra.tables.datasets import ConversationRow, Label, LabelSource
from app.infra.tables.deployments import EditState, ServedEdit
from app.infra.tables.gates import GateResult
from app.infra.tables.jobs import Job, JobState
from app.infra.tables.records import AnswerHour
from app.infra.tables.runs import Run, RunState
from app.infra.tables.schemas import Republication, SchemaVersion
from app.infra.tables.triggers import Trigger, TriggerKind
from app.schemas.repository import is_current
from app.triggers.conditions import FailedEdit
from app.triggers.measures import MeasuredMean
from app.triggers.periods import HourTotal, Period, Totals
from app.usage.repository import AnsweredHour
from evaluation.reporting.report import Verdict

_BY_PEOPLE = (LabelSource.reviewer, LabelSource.correction)
_FRESH: dict[str, Any] = {"populate_existing": True, "synchronize_session": False}


class DueTrigger(NamedTuple):
    """Of any tenant."""

    scope: TenantScope
    id: UUID
    kind: TriggerKind


class AnsweringPair(NamedTuple):
    """What answered."""

    model_version_id: UUID
    schema_version_id: UUID


class RunOfSchema(NamedTuple):
    """gpu_s: of workers, so far."""

    id: UUID
    trigger_id: UUID | None
    created_at: datetime
    finished_at: datetime | None
    state: RunState
    dataset_id: UUID
    schema_version_id: UUID
    preset: str | None
    gpu_s: float


async def get(
    session: AsyncSession, scope: TenantScope, trigger_id: UUID, *, lock: bool = False
) -> Trigger | None:
    query = select(Trigger).where(Trigger.tenant_id == scope.tenant_id, Trigger.id == trigger_id)
    query = query.with_for_update() if lock else query
    return await session.scalar(query, execution_options={"populate_existing": True})


async def listed(
    session: AsyncSession, scope: TenantScope, paging: PageRequest, schema_id: UUID | None
) -> list[Trigger]:
    query = select(Trigger).where(Trigger.tenant_id == scope.tenant_id)
    if schema_id is not None:
        query = query.where(Trigger.schema_id == schema_id)
    return list(await session.scalars(paging.newest_first(query, Trigger.created_at, Trigger.id)))


async def count(session: AsyncSession, scope: TenantScope) -> int:
    query = select(func.count()).select_from(Trigger).where(Trigger.tenant_id == scope.tenant_id)
    return await session.scalar(query) or 0


async def clock(session: AsyncSession) -> datetime:
    """The database's."""
    return (await session.scalars(select(now()))).one()


# ------------------------------------------------------------------------------------------------------ for the sweep


async def due(session: AsyncSession, limit: int) -> list[DueTrigger]:
    """Of every tenant: those that are to be checked now, the longest due first."""
    query = select(Trigger.tenant_id, Trigger.id, Trigger.kind).where(
        Trigger.next_check_at <= now(), ~Trigger.paused, Trigger.kind != TriggerKind.by_hand
    )
    rows = await session.execute(query.order_by(Trigger.next_check_at).limit(limit))
    return [DueTrigger(TenantScope(tenant_id), trigger_id, kind) for tenant_id, trigger_id, kind in rows]


async def claim(
    session: AsyncSession, scope: TenantScope, trigger_id: UUID, every_s: float
) -> Trigger | None:
    """None where another dispatcher was faster, or it was paused meanwhile."""
    ready = (Trigger.next_check_at <= now(), ~Trigger.paused)
    statement = update(Trigger).where(Trigger.tenant_id == scope.tenant_id, Trigger.id == trigger_id, *ready)
    values = {"checks": Trigger.checks + 1, "checked_at": now(), "next_check_at": now(every_s)}
    return await session.scalar(statement.values(values).returning(Trigger), execution_options=_FRESH)


async def write(
    session: AsyncSession, scope: TenantScope, trigger_id: UUID, check: int, values: dict[str, Any]
) -> bool:
    """False where there has been another check since, or it is gone."""
    own = (Trigger.tenant_id == scope.tenant_id, Trigger.id == trigger_id, Trigger.checks == check)
    statement = update(Trigger).where(*own).values(values).returning(Trigger.id)
    return await session.scalar(statement, execution_options={"synchronize_session": False}) is not None


# ----------------------------------------------------------------------------------------------------- what is known


async def answering(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> AnsweringPair | None:
    """What has answered by the schema last; where several did within that hour, what answered most."""
    own = (AnswerHour.tenant_id == scope.tenant_id, AnswerHour.schema_id == schema_id)
    newest = select(func.max(AnswerHour.hour)).where(*own).scalar_subquery()
    query = (
        select(AnswerHour.model_version_id, AnswerHour.schema_version_id)
        .where(*own, AnswerHour.hour == newest)
        .group_by(AnswerHour.model_version_id, AnswerHour.schema_version_id)
        .order_by(func.sum(AnswerHour.answers).desc())
        .limit(1)
    )
    row = (await session.execute(query)).one_or_none()
    return None if row is None else AnsweringPair(*row)


async def hours(session: AsyncSession, scope: TenantScope, pair: AnsweringPair) -> list[HourTotal]:
    query = select(AnswerHour.hour, func.sum(AnswerHour.answers)).where(*_of_pair(scope, pair))
    rows = await session.execute(query.group_by(AnswerHour.hour).order_by(AnswerHour.hour))
    return [HourTotal(hour, int(answers)) for hour, answers in rows]


async def totals(session: AsyncSession, scope: TenantScope, pair: AnsweringPair, period: Period) -> Totals:
    within = (AnswerHour.hour >= period.first, AnswerHour.hour < period.until)
    query = select(
        AnswerHour.outcome,
        func.sum(AnswerHour.answers),
        func.sum(AnswerHour.masses),
        func.sum(AnswerHour.mass_sum),
        func.sum(AnswerHour.mass_squares),
    ).where(*_of_pair(scope, pair), *within)
    rows = list(await session.execute(query.group_by(AnswerHour.outcome)))
    masses = MeasuredMean(
        int(sum(row[2] for row in rows)), sum(row[3] for row in rows), sum(row[4] for row in rows)
    )
    return Totals({row[0]: int(row[1]) for row in rows}, masses)


async def answer_hours(
    session: AsyncSession, scope: TenantScope, schema_id: UUID, until: datetime
) -> list[AnsweredHour]:
    """All that is kept, in the order of time. Plain tuples: there may be tens of thousands."""
    columns = [getattr(AnswerHour, name) for name in AnsweredHour._fields]
    query = select(*columns).where(
        AnswerHour.tenant_id == scope.tenant_id, AnswerHour.schema_id == schema_id, AnswerHour.hour < until
    )
    return [AnsweredHour(*row) for row in await session.execute(query.order_by(AnswerHour.hour))]


async def corrections(
    session: AsyncSession, scope: TenantScope, schema_id: UUID, dataset_id: UUID, since: datetime | None
) -> dict[bool, int]:
    """How many conversations people have labelled since then: in the dataset (True), and in others of the schema."""
    query = (
        select(ConversationRow.dataset_id, func.count(Label.conversation_id.distinct()))
        .join(ConversationRow, ConversationRow.id == Label.conversation_id)
        .where(Label.tenant_id == scope.tenant_id, ConversationRow.tenant_id == scope.tenant_id)
        .where(Label.schema_id == schema_id, Label.source.in_(_BY_PEOPLE))
        .group_by(ConversationRow.dataset_id)
    )
    if since is not None:
        query = query.where(Label.created_at > since)
    counted = Counter[bool]()
    for labelled_in, found in await session.execute(query):
        counted[labelled_in == dataset_id] += found
    return counted


async def labels(
    session: AsyncSession, scope: TenantScope, dataset_id: UUID
) -> list[tuple[datetime, UUID, bool]]:
    """When each label of the dataset came, of which conversation, and whether a person gave it."""
    by_people = case((Label.source.in_(_BY_PEOPLE), True), else_=False)
    query = _labels(select(Label.created_at, Label.conversation_id, by_people), scope, dataset_id)
    rows = await session.execute(query.order_by(Label.created_at))
    return [(at, conversation_id, bool(corrected)) for at, conversation_id, corrected in rows]


async def newest_label_at(session: AsyncSession, scope: TenantScope, dataset_id: UUID) -> datetime | None:
    newest: datetime | None = await session.scalar(
        _labels(select(func.max(Label.created_at)), scope, dataset_id)
    )
    return newest


async def runs(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> list[RunOfSchema]:
    """Oldest first."""
    under_way = case((Job.state == JobState.running, seconds_since(Job.started_at.expression)), else_=0.0)
    worked = (
        select(func.coalesce(func.sum(Job.worked_s + under_way), 0.0))
        .where(Job.tenant_id == scope.tenant_id, Job.run_id == Run.id)
        .correlate(Run)
        .scalar_subquery()
    )
    query = (
        select(
            Run.id,
            Run.trigger_id,
            Run.created_at,
            Run.finished_at,
            Run.state,
            Run.dataset_id,
            Run.schema_version_id,
            Run.preset,
            worked,
        )
        .join(SchemaVersion, SchemaVersion.id == Run.schema_version_id)
        .where(Run.tenant_id == scope.tenant_id, SchemaVersion.tenant_id == scope.tenant_id)
        .where(SchemaVersion.schema_id == schema_id)
        .order_by(Run.created_at)
    )
    return [RunOfSchema(*row) for row in await session.execute(query)]


async def failed_edits(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> list[FailedEdit]:
    """Edits that their own gate has decided against; oldest first."""
    return [found for found, _ in await _failed_edits(session, scope, schema_id)]


async def failed_current_edit(
    session: AsyncSession, scope: TenantScope, schema_id: UUID
) -> FailedEdit | None:
    """The newest of them, if it is of the version that is current, and no run was begun for that since."""
    found = await _failed_edits(session, scope, schema_id, current=True)
    if not found:
        return None
    edit, version_id = found[-1]
    query = select(Run.id).where(
        Run.tenant_id == scope.tenant_id, Run.schema_version_id == version_id, Run.created_at > edit.failed_at
    )
    return edit if await session.scalar(query.limit(1)) is None else None


async def _failed_edits(
    session: AsyncSession, scope: TenantScope, schema_id: UUID, *, current: bool = False
) -> list[tuple[FailedEdit, UUID]]:
    version = aliased(SchemaVersion)
    query = (
        select(version.number, ServedEdit.decided_at, version.id)
        .join(version, version.id == ServedEdit.schema_version_id)
        .join(GateResult, GateResult.id == ServedEdit.gate_result_id)
        .where(ServedEdit.tenant_id == scope.tenant_id, ServedEdit.schema_id == schema_id)
        .where(version.tenant_id == scope.tenant_id, GateResult.tenant_id == scope.tenant_id)
        .where(ServedEdit.state == EditState.reverted, GateResult.verdict == Verdict.failed)
        .where(ServedEdit.decided_at.is_not(None))
        .order_by(ServedEdit.decided_at)
    )
    if current:
        query = query.where(is_current(version))
    rows = await session.execute(query)
    return [(FailedEdit(number, at), version_id) for number, at, version_id in rows if at is not None]


async def published(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> list[tuple[int, datetime]]:
    """Versions by number, each as often as its content was published."""
    first = select(SchemaVersion.number, SchemaVersion.published_at).where(
        SchemaVersion.tenant_id == scope.tenant_id, SchemaVersion.schema_id == schema_id
    )
    again = (
        select(SchemaVersion.number, Republication.published_at)
        .join(SchemaVersion, SchemaVersion.id == Republication.schema_version_id)
        .where(Republication.tenant_id == scope.tenant_id, SchemaVersion.tenant_id == scope.tenant_id)
        .where(SchemaVersion.schema_id == schema_id)
    )
    return [(number, at) for query in (first, again) for number, at in await session.execute(query)]


def _of_pair(scope: TenantScope, pair: AnsweringPair) -> Sequence[Any]:
    return (
        AnswerHour.tenant_id == scope.tenant_id,
        AnswerHour.model_version_id == pair.model_version_id,
        AnswerHour.schema_version_id == pair.schema_version_id,
    )


def _labels(query: Select[Any], scope: TenantScope, dataset_id: UUID) -> Select[Any]:
    return (
        query.join(ConversationRow, ConversationRow.id == Label.conversation_id)
        .where(Label.tenant_id == scope.tenant_id, ConversationRow.tenant_id == scope.tenant_id)
        .where(ConversationRow.dataset_id == dataset_id)
    )
