from collections.abc import Sequence
from functools import cache
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, Select, and_, bindparam, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.http.paging import PageRequest
from app.infra.db.scope import TenantScope
from app.infra.tables.deployments import Deployment, DeploymentState, EditState, ServedEdit
from app.infra.tables.gates import GateResult
from app.infra.tables.runs import ModelVersion, Run
from app.infra.tables.schemas import Republication, SchemaVersion
from app.infra.tables.tenants import Fallback, ServeEdits, Tenant
from app.schemas.repository import is_current
from evaluation.contract.mode import Mode
from evaluation.reporting.report import Verdict

OPEN = (DeploymentState.pending, DeploymentState.loading)
UNDECIDED = (EditState.waiting, EditState.provisional)
_FRESH = {"populate_existing": True}


class FoundDeployment(NamedTuple):
    """schema_version: the number of the version in the deployment's pair. mode: of the gate that allows it. run: which
    made its model.
    """

    row: Deployment
    schema_version: int
    mode: Mode
    run: Run


class ServedPair(NamedTuple):
    """What is, or was, live. version: of its pair, whatever edits came later. mode: of the gate that allows it. run:
    which made the model.
    """

    row: Deployment
    model: ModelVersion
    version: SchemaVersion
    mode: Mode
    run: Run


class LiveModel(NamedTuple):
    """Of any tenant."""

    row: Deployment
    model: ModelVersion


class Edited(NamedTuple):
    row: ServedEdit
    version: SchemaVersion


class Whose(NamedTuple):
    """A row of some tenant's, found by a sweep."""

    scope: TenantScope
    id: UUID


async def get(
    session: AsyncSession, scope: TenantScope, deployment_id: UUID, *, lock: bool = False
) -> Deployment | None:
    query = select(Deployment).where(Deployment.tenant_id == scope.tenant_id, Deployment.id == deployment_id)
    return await session.scalar(query.with_for_update() if lock else query, execution_options=_FRESH)


async def found(session: AsyncSession, scope: TenantScope, deployment_id: UUID) -> FoundDeployment | None:
    row = (await session.execute(_found(scope).where(Deployment.id == deployment_id))).one_or_none()
    return None if row is None else FoundDeployment(*row)


async def listed(
    session: AsyncSession, scope: TenantScope, paging: PageRequest, schema_id: UUID | None
) -> list[FoundDeployment]:
    query = _found(scope)
    if schema_id is not None:
        query = query.where(Deployment.schema_id == schema_id)
    page = paging.newest_first(query, Deployment.created_at, Deployment.id)
    return [FoundDeployment(*row) for row in await session.execute(page)]


async def open_of_gate(session: AsyncSession, scope: TenantScope, gate_id: UUID) -> Deployment | None:
    """One of this pair that is on its way."""
    query = select(Deployment).where(
        Deployment.tenant_id == scope.tenant_id,
        Deployment.gate_result_id == gate_id,
        Deployment.state.in_(OPEN),
    )
    return await session.scalar(query.order_by(Deployment.created_at.desc()).limit(1))


async def live(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> Deployment | None:
    query = select(Deployment).where(
        Deployment.tenant_id == scope.tenant_id,
        Deployment.schema_id == schema_id,
        Deployment.state == DeploymentState.live,
    )
    return await session.scalar(query, execution_options=_FRESH)


async def serving(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> ServedPair | None:
    query = _servings(scope).where(Deployment.schema_id == schema_id)
    row = (await session.execute(query.where(Deployment.state == DeploymentState.live))).one_or_none()
    return None if row is None else ServedPair(*row)


async def before(session: AsyncSession, scope: TenantScope, deployment_id: UUID) -> ServedPair | None:
    """The model of this deployment was live."""
    current = aliased(Deployment)
    query = _servings(scope).join(current, Deployment.id == _before(current))
    row = (await session.execute(query.where(current.id == deployment_id))).one_or_none()
    return None if row is None else ServedPair(*row)


async def models_held(session: AsyncSession, scope: TenantScope) -> set[UUID]:
    """That are live, or on their way."""
    states = (DeploymentState.live, *OPEN)
    query = select(Deployment.model_version_id).where(
        Deployment.tenant_id == scope.tenant_id, Deployment.state.in_(states)
    )
    return set(await session.scalars(query))


# -------------------------------------------------------------------------------------------------------------- edits


async def newest_edit(
    session: AsyncSession, scope: TenantScope, deployment: Deployment
) -> SchemaVersion | None:
    """The version that a live deployment should go on to, if there is one; see `_edits`."""
    values = {"tenant_id": scope.tenant_id, "deployment_id": deployment.id}
    row = (await session.execute(_newest_edit(), values)).one_or_none()
    return None if row is None else row[1]


async def edits_of(session: AsyncSession, scope: TenantScope, deployment_id: UUID) -> list[Edited]:
    """Newest first."""
    query = (
        select(ServedEdit, SchemaVersion)
        .join(SchemaVersion, SchemaVersion.id == ServedEdit.schema_version_id)
        .where(ServedEdit.tenant_id == scope.tenant_id, ServedEdit.deployment_id == deployment_id)
        .order_by(ServedEdit.created_at.desc(), SchemaVersion.number.desc())
    )
    return [Edited(*row) for row in await session.execute(query, execution_options=_FRESH)]


async def edit(session: AsyncSession, scope: TenantScope, edit_id: UUID) -> ServedEdit | None:
    query = select(ServedEdit).where(ServedEdit.tenant_id == scope.tenant_id, ServedEdit.id == edit_id)
    return await session.scalar(query, execution_options=_FRESH)


async def undecided(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> ServedEdit | None:
    query = select(ServedEdit).where(
        ServedEdit.tenant_id == scope.tenant_id,
        ServedEdit.schema_id == schema_id,
        ServedEdit.state.in_(UNDECIDED),
    )
    return await session.scalar(query, execution_options=_FRESH)


# -------------------------------------------------------------------------------- for the sweeps, of every tenant


async def unnoticed_edits(session: AsyncSession, limit: int) -> list[Whose]:
    """Live deployments whose schema has an edit that nothing has been begun for."""
    after = aliased(ServedEdit)
    begun = exists().where(
        ServedEdit.deployment_id == Deployment.id,
        ServedEdit.schema_version_id == SchemaVersion.id,
        ~exists().where(after.deployment_id == Deployment.id, after.created_at > ServedEdit.created_at),
    )
    rows = await session.execute(_edits().where(~begun).limit(limit))
    return [Whose(TenantScope(row.tenant_id), row.id) for row, _ in rows]


async def edits_to_decide(session: AsyncSession, limit: int) -> list[Whose]:
    """Undecided edits about which something new is known. The others are not touched, and nobody waits for them."""
    query = (
        select(ServedEdit.tenant_id, ServedEdit.id)
        .join(Deployment, Deployment.id == ServedEdit.deployment_id)
        .join(Tenant, Tenant.id == ServedEdit.tenant_id)
        .where(ServedEdit.state.in_(UNDECIDED))
        .where(or_(Deployment.state != DeploymentState.live, _measured_anew(), _served_otherwise()))
        .order_by(ServedEdit.created_at)
        .limit(limit)
    )
    return [Whose(TenantScope(tenant_id), row_id) for tenant_id, row_id in await session.execute(query)]


async def wanted_models(session: AsyncSession, states: Sequence[DeploymentState]) -> list[ModelVersion]:
    """Of the deployments in these states."""
    deployed = select(Deployment.model_version_id).where(Deployment.state.in_(states))
    query = select(ModelVersion).where(ModelVersion.id.in_(deployed))
    return list(await session.scalars(query.order_by(ModelVersion.created_at, ModelVersion.id)))


async def live_models(session: AsyncSession) -> list[LiveModel]:
    query = select(Deployment, ModelVersion).join(
        ModelVersion, ModelVersion.id == Deployment.model_version_id
    )
    rows = await session.execute(query.where(Deployment.state == DeploymentState.live))
    return [LiveModel(*row) for row in rows]


async def not_served(session: AsyncSession) -> int:
    """Live deployments that nothing answers for, of all tenants."""
    live = (Deployment.state == DeploymentState.live, Deployment.problem.is_not(None))
    return await session.scalar(select(func.count()).select_from(Deployment).where(*live)) or 0


async def models_to_fall_back_on(session: AsyncSession) -> list[ModelVersion]:
    """Those that were live before the live ones, where the tenant wants an answer from them if need be."""
    current = aliased(Deployment)
    models = (
        select(Deployment.model_version_id)
        .join(current, Deployment.id == _before(current))
        .join(Tenant, Tenant.id == Deployment.tenant_id)
        .where(current.state == DeploymentState.live, Tenant.fallback != Fallback.none)
    )
    query = select(ModelVersion).where(ModelVersion.id.in_(models))
    return list(await session.scalars(query.order_by(ModelVersion.created_at, ModelVersion.id)))


@cache  # asked for every second while answers are given, and building it takes longer than running it
def _newest_edit() -> Select[Deployment, SchemaVersion]:
    return _edits().where(
        Deployment.tenant_id == bindparam("tenant_id"), Deployment.id == bindparam("deployment_id")
    )


def _edits() -> Select[Deployment, SchemaVersion]:
    """Live deployments, each with the current version of its schema if that is an edit of what it serves.

    It is one if its number is higher, and, where the deployment goes back to a model that was live before, if it was
    published after that: who goes back does not mean to be brought forward again. An older version is one, the
    deployment's own too, if it was published again since: that takes back what came between.
    """
    own, before = aliased(SchemaVersion), aliased(Deployment)
    taken_back = exists().where(
        Republication.schema_version_id == SchemaVersion.id,
        Republication.published_at > Deployment.created_at,
    )
    goes_back = exists().where(
        before.schema_id == Deployment.schema_id,
        before.model_version_id == Deployment.model_version_id,
        before.activated_at.is_not(None),
        before.created_at < Deployment.created_at,
    )
    return (
        select(Deployment, SchemaVersion)
        .join(own, own.id == Deployment.schema_version_id)
        .join(SchemaVersion, SchemaVersion.schema_id == Deployment.schema_id)
        .where(Deployment.state == DeploymentState.live, is_current(SchemaVersion))
        .where(
            or_(
                taken_back,
                and_(
                    SchemaVersion.number > own.number,
                    or_(SchemaVersion.published_at > Deployment.created_at, ~goes_back),
                ),
            )
        )
    )


def _measured_anew() -> ColumnElement[bool]:
    """There is a verdict on the pair, or a newer gate than the one that the edit names."""
    known, allows = aliased(GateResult), aliased(GateResult)
    mode = select(allows.mode).where(allows.id == Deployment.gate_result_id).correlate(Deployment)
    known_at = (
        select(known.created_at)
        .where(known.id == ServedEdit.gate_result_id)
        .correlate(ServedEdit)
        .scalar_subquery()
    )
    return exists().where(
        GateResult.model_version_id == Deployment.model_version_id,
        GateResult.schema_version_id == ServedEdit.schema_version_id,
        GateResult.mode == mode.scalar_subquery(),
        or_(
            GateResult.verdict.in_((Verdict.passed, Verdict.failed)),
            ServedEdit.gate_result_id.is_(None),
            GateResult.created_at > known_at,
        ),
    )


def _served_otherwise() -> ColumnElement[bool]:
    """The tenant has changed its mind about when edits are served."""
    return or_(
        and_(ServedEdit.state == EditState.waiting, Tenant.serve_edits == ServeEdits.at_once),
        and_(ServedEdit.state == EditState.provisional, Tenant.serve_edits == ServeEdits.after_gate),
    )


def _before(current: type[Deployment]) -> ScalarSelect[UUID]:
    """Id of the deployment that was live when the model of `current` went live first.

    Not what `current` has replaced: that may be what somebody has just gone back from, or the same model.
    """
    own, older = aliased(Deployment), aliased(Deployment)
    first = select(func.min(own.created_at)).where(
        own.tenant_id == current.tenant_id,
        own.schema_id == current.schema_id,
        own.model_version_id == current.model_version_id,
        own.activated_at.is_not(None),
    )
    query = select(older.id).where(
        older.tenant_id == current.tenant_id,
        older.schema_id == current.schema_id,
        older.activated_at.is_not(None),
        older.created_at < first.correlate(current).scalar_subquery(),
    )
    newest = query.order_by(older.created_at.desc(), older.id.desc()).limit(1)
    return newest.correlate(current).scalar_subquery()


def _servings(scope: TenantScope) -> Select[Deployment, ModelVersion, SchemaVersion, Mode, Run]:
    return (
        select(Deployment, ModelVersion, SchemaVersion, GateResult.mode, Run)
        .join(GateResult, GateResult.id == Deployment.gate_result_id)
        .join(ModelVersion, ModelVersion.id == Deployment.model_version_id)
        .join(Run, Run.id == ModelVersion.run_id)
        .join(SchemaVersion, SchemaVersion.id == Deployment.schema_version_id)
        .where(Deployment.tenant_id == scope.tenant_id)
    )


def _found(scope: TenantScope) -> Select[Deployment, int, Mode, Run]:
    query = select(Deployment, SchemaVersion.number, GateResult.mode, Run)
    query = query.join(GateResult, GateResult.id == Deployment.gate_result_id)
    query = query.join(ModelVersion, ModelVersion.id == Deployment.model_version_id)
    query = query.join(Run, Run.id == ModelVersion.run_id)
    query = query.join(SchemaVersion, SchemaVersion.id == Deployment.schema_version_id)
    return query.where(Deployment.tenant_id == scope.tenant_id)
