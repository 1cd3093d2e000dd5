"""Runs and the models that they made, each with the schema version that it is for."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Select, case, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.http.paging import PageRequest, Position
from app.infra.db.scope import TenantScope
from app.infra.tables.jobs import Job, JobKind
from app.infra.tables.runs import ModelVersion, Run, RunState, TeacherSpending
from app.infra.tables.schemas import SchemaVersion
from app.jobs.repository import OPEN


class OfVersion(NamedTuple):
    """version: the schema version that the run, or the model, is for."""

    run: Run
    version: SchemaVersion


class Model(NamedTuple):
    row: ModelVersion
    run: Run
    version: SchemaVersion


def position(row: Run | ModelVersion) -> Position:
    """In the lists below."""
    return Position(row.created_at, row.id)


async def get(session: AsyncSession, scope: TenantScope, run_id: UUID, *, lock: bool = False) -> Run | None:
    """lock: until the end of the transaction nobody else changes it. Lock its jobs first, if at all."""
    query = select(Run).where(Run.tenant_id == scope.tenant_id, Run.id == run_id)
    query = query.with_for_update() if lock else query
    return await session.scalar(query, execution_options={"populate_existing": True})


async def with_version(session: AsyncSession, scope: TenantScope, run_id: UUID) -> OfVersion | None:
    found = (await session.execute(_with_version(scope).where(Run.id == run_id))).one_or_none()
    return None if found is None else OfVersion(*found)


async def listed(
    session: AsyncSession, scope: TenantScope, paging: PageRequest, schema_id: UUID | None
) -> list[OfVersion]:
    query = _with_version(scope)
    if schema_id is not None:
        query = query.where(SchemaVersion.schema_id == schema_id)
    page = paging.newest_first(query, Run.created_at, Run.id)
    return [OfVersion(*row) for row in await session.execute(page)]


async def newest_like(
    session: AsyncSession, scope: TenantScope, base: str, preset: str, limit: int
) -> list[UUID]:
    """Runs on this base with this preset, newest first."""
    query = select(Run.id).where(Run.tenant_id == scope.tenant_id, Run.base == base, Run.preset == preset)
    return list(await session.scalars(query.order_by(Run.created_at.desc(), Run.id).limit(limit)))


async def model_version(
    session: AsyncSession, scope: TenantScope, model_version_id: UUID
) -> ModelVersion | None:
    query = select(ModelVersion).where(ModelVersion.tenant_id == scope.tenant_id)
    return await session.scalar(query.where(ModelVersion.id == model_version_id))


async def model(session: AsyncSession, scope: TenantScope, model_version_id: UUID) -> Model | None:
    query = _models(scope).where(ModelVersion.id == model_version_id)
    found = (await session.execute(query)).one_or_none()
    return None if found is None else Model(*found)


async def models(
    session: AsyncSession, scope: TenantScope, paging: PageRequest, schema_id: UUID | None
) -> list[Model]:
    query = _models(scope)
    if schema_id is not None:
        query = query.where(SchemaVersion.schema_id == schema_id)
    page = paging.newest_first(query, ModelVersion.created_at, ModelVersion.id)
    return [Model(*row) for row in await session.execute(page)]


async def in_states(session: AsyncSession, run_ids: Sequence[UUID], states: Sequence[RunState]) -> list[Run]:
    """Of any tenant: for workers, who look after their machine."""
    query = select(Run).where(Run.id.in_(run_ids), Run.state.in_(states))
    return list(await session.scalars(query))


async def checkpoints(session: AsyncSession, run_ids: Sequence[UUID]) -> list[str]:
    """Keys in the storage. Of any tenant, likewise."""
    query = select(Job.checkpoint_uri).where(Job.run_id.in_(run_ids), Job.checkpoint_uri.is_not(None))
    return [key for key in await session.scalars(query) if key is not None]


# --------------------------------------------------------------------------------------------------------- teachers


async def spending(
    session: AsyncSession, scope: TenantScope, run_id: UUID, teacher: str
) -> TeacherSpending | None:
    query = select(TeacherSpending).where(
        TeacherSpending.tenant_id == scope.tenant_id,
        TeacherSpending.run_id == run_id,
        TeacherSpending.teacher == teacher,
    )
    return await session.scalar(query, execution_options={"populate_existing": True})


async def teacher_usd(
    session: AsyncSession,
    scope: TenantScope,
    teacher: str,
    month: date,
    *,
    but_for: UUID | None = None,
    open_as_granted: bool = True,
) -> float:
    """That the tenant's runs have spent; of those whose traces have not ended, what they may spend."""
    is_open = exists().where(
        Job.tenant_id == scope.tenant_id,
        Job.run_id == TeacherSpending.run_id,
        Job.kind == JobKind.traces,
        Job.state.in_(OPEN),
    )
    most = case(
        (
            is_open & (TeacherSpending.granted_usd > TeacherSpending.spent_usd),
            TeacherSpending.granted_usd,
        ),
        else_=TeacherSpending.spent_usd,
    )
    counted = most if open_as_granted else TeacherSpending.spent_usd
    query = select(func.coalesce(func.sum(counted), 0.0)).where(
        TeacherSpending.tenant_id == scope.tenant_id,
        TeacherSpending.teacher == teacher,
        TeacherSpending.month == month,
    )
    if but_for is not None:
        query = query.where(TeacherSpending.run_id != but_for)
    return float(await session.scalar(query) or 0.0)


async def set_grant(
    session: AsyncSession, scope: TenantScope, run_id: UUID, teacher: str, month: date, granted_usd: float
) -> None:
    """granted_usd: with what was spent before. A run that goes on in another month counts against that one."""
    row = await spending(session, scope, run_id, teacher)
    if row is None:
        own = {"tenant_id": scope.tenant_id, "run_id": run_id, "teacher": teacher}
        session.add(TeacherSpending(**own, month=month, granted_usd=granted_usd, spent_usd=0.0))
    else:
        row.spent_usd = row.spent_usd if row.month == month else 0.0
        row.month, row.granted_usd = month, granted_usd
    await session.flush()


async def set_spent(
    session: AsyncSession, scope: TenantScope, run_id: UUID, usd: Mapping[str, float]
) -> None:
    for teacher, spent in usd.items():
        change = update(TeacherSpending).where(
            TeacherSpending.tenant_id == scope.tenant_id,
            TeacherSpending.run_id == run_id,
            TeacherSpending.teacher == teacher,
        )
        await session.execute(
            change.values(spent_usd=spent), execution_options={"synchronize_session": False}
        )


async def spent(session: AsyncSession, scope: TenantScope, run_id: UUID) -> dict[str, float]:
    query = select(TeacherSpending.teacher, TeacherSpending.spent_usd).where(
        TeacherSpending.tenant_id == scope.tenant_id, TeacherSpending.run_id == run_id
    )
    return {row.teacher: row.spent_usd for row in await session.execute(query)}


def _with_version(scope: TenantScope) -> Select[Run, SchemaVersion]:
    query = select(Run, SchemaVersion).join(SchemaVersion, SchemaVersion.id == Run.schema_version_id)
    return query.where(Run.tenant_id == scope.tenant_id)


def _models(scope: TenantScope) -> Select[ModelVersion, Run, SchemaVersion]:
    query = select(ModelVersion, Run, SchemaVersion).join(Run, Run.id == ModelVersion.run_id)
    query = query.join(SchemaVersion, SchemaVersion.id == ModelVersion.schema_version_id)
    return query.where(ModelVersion.tenant_id == scope.tenant_id)
