from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Select, exists, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.http.paging import PageRequest
from app.infra.db.scope import TenantScope
from app.infra.tables.deployments import Deployment, DeploymentState
from app.infra.tables.gates import GateResult, GateState
from app.infra.tables.runs import ModelVersion, Run
from app.infra.tables.schemas import SchemaVersion
from evaluation.reporting.report import Verdict

OPEN = (GateState.queued, GateState.running)
FINAL = (Verdict.passed, Verdict.failed)


class FoundGate(NamedTuple):
    """schema_version: the number of the version that was measured."""

    row: GateResult
    schema_id: UUID
    schema_version: int


class Pair(NamedTuple):
    scope: TenantScope
    model_version_id: UUID
    schema_version_id: UUID


async def get(
    session: AsyncSession, scope: TenantScope, gate_id: UUID, *, lock: bool = False
) -> GateResult | None:
    query = select(GateResult).where(GateResult.tenant_id == scope.tenant_id, GateResult.id == gate_id)
    return await session.scalar(query.with_for_update() if lock else query)


async def found(session: AsyncSession, scope: TenantScope, gate_id: UUID) -> FoundGate | None:
    row = (await session.execute(_found(scope).where(GateResult.id == gate_id))).one_or_none()
    return None if row is None else FoundGate(*row)


async def listed(
    session: AsyncSession, scope: TenantScope, paging: PageRequest, model_version_id: UUID | None
) -> list[FoundGate]:
    query = _found(scope)
    if model_version_id is not None:
        query = query.where(GateResult.model_version_id == model_version_id)
    page = paging.newest_first(query, GateResult.created_at, GateResult.id)
    return [FoundGate(*row) for row in await session.execute(page)]


async def of_pair(
    session: AsyncSession, scope: TenantScope, model_version_id: UUID, schema_version_id: UUID
) -> list[GateResult]:
    """Newest first."""
    query = select(GateResult).where(
        GateResult.tenant_id == scope.tenant_id,
        GateResult.model_version_id == model_version_id,
        GateResult.schema_version_id == schema_version_id,
    )
    return list(await session.scalars(query.order_by(GateResult.created_at.desc(), GateResult.id.desc())))


async def model(
    session: AsyncSession, scope: TenantScope, model_version_id: UUID, *, lock: bool = False
) -> ModelVersion | None:
    """lock: nobody else asks for a gate on it meanwhile; others may still refer to it."""
    query = select(ModelVersion).where(
        ModelVersion.tenant_id == scope.tenant_id, ModelVersion.id == model_version_id
    )
    return await session.scalar(query.with_for_update(key_share=True) if lock else query)


async def live_model(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> ModelVersion | None:
    """What answers under any version of this schema."""
    query = select(ModelVersion).join(Deployment, Deployment.model_version_id == ModelVersion.id)
    return await session.scalar(
        query.where(
            Deployment.tenant_id == scope.tenant_id,
            ModelVersion.tenant_id == scope.tenant_id,
            Deployment.schema_id == schema_id,
            Deployment.state == DeploymentState.live,
        )
    )


async def run(session: AsyncSession, scope: TenantScope, run_id: UUID) -> Run:
    query = select(Run).where(Run.tenant_id == scope.tenant_id, Run.id == run_id)
    return (await session.scalars(query)).one()


async def ungated(session: AsyncSession, limit: int) -> list[Pair]:
    """Of every tenant: model versions without any gate, each with its own schema version, oldest first."""
    gated = exists().where(GateResult.model_version_id == ModelVersion.id)
    query = select(ModelVersion.tenant_id, ModelVersion.id, ModelVersion.schema_version_id).where(~gated)
    rows = await session.execute(query.order_by(ModelVersion.created_at, ModelVersion.id).limit(limit))
    return [Pair(TenantScope(tenant_id), model_id, version_id) for tenant_id, model_id, version_id in rows]


async def models_in_the_balance(session: AsyncSession) -> list[ModelVersion]:
    """Of every tenant: those that a gate is, or will soon be, measuring."""
    measured = select(GateResult.model_version_id).where(GateResult.state.in_(OPEN))
    return list(await session.scalars(select(ModelVersion).where(ModelVersion.id.in_(measured))))


def _found(scope: TenantScope) -> Select[GateResult, UUID, int]:
    query = select(GateResult, SchemaVersion.schema_id, SchemaVersion.number)
    query = query.join(SchemaVersion, SchemaVersion.id == GateResult.schema_version_id)
    return query.where(GateResult.tenant_id == scope.tenant_id)
