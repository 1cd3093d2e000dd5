from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.dependencies import Caller, tenant_scope
from app.auth.principal import Scope
from app.auth.route import keyed_router
from app.deployments import repository, service
from app.deployments.payloads import DEPLOYMENT_ID, SCHEMA_ID, DeploymentIn, DeploymentOut, ServingOut
from app.deployments.service import GateNotPassed, NothingBefore
from app.errors import Forbidden, IdempotencyKeyReused, NotFound, RequestInFlight, ShareExceeded
from app.http.idempotency.reservation import Once, once
from app.http.paging import Page, Paging, Position
from app.http.problems import responses
from app.infra.db.scope import TenantScope
from app.infra.db.session import Session

router = keyed_router(tags=["deployments"])
DeploymentId = Annotated[UUID, Path(description="Id of a deployment.", examples=[DEPLOYMENT_ID])]
SchemaId = Annotated[UUID, Path(description="Id of a schema.", examples=[SCHEMA_ID])]
Reader = Annotated[TenantScope, Depends(tenant_scope(Scope.runs_read))]
Runner = Annotated[TenantScope, Depends(tenant_scope(Scope.runs_write))]
OnceForRunner = Annotated[Once, Depends(once(Scope.runs_write))]


@router.post(
    "/v1/deployments",
    status_code=202,
    operation_id="create_deployment",
    responses=responses(
        Forbidden, NotFound, GateNotPassed, ShareExceeded, RequestInFlight, IdempotencyKeyReused
    ),
)
async def create(
    body: DeploymentIn,
    request: Request,
    caller: Caller,
    scope: Runner,
    session: Session,
    request_once: OnceForRunner,
) -> DeploymentOut:
    """Deploy the pair that a gate has passed. It is live once every model server has answered with it."""
    most = request.app.state.settings.tenant_adapters
    row = await service.create(session, scope, caller.key_id, body.gate_id, most)
    return await request_once.keep(session, 202, await _shown(session, scope, row.id))


@router.get("/v1/deployments", operation_id="list_deployments", responses=responses(NotFound))
async def listed(
    scope: Reader,
    session: Session,
    paging: Paging,
    schema_id: Annotated[
        UUID | None, Query(description="Only those of this schema.", examples=[SCHEMA_ID])
    ] = None,
) -> Page[DeploymentOut]:
    """The tenant's deployments."""
    rows = await repository.listed(session, scope, paging, schema_id)
    return paging.page(rows, DeploymentOut.of, lambda found: Position(found.row.created_at, found.row.id))


@router.get("/v1/deployments/{deployment_id}", operation_id="get_deployment", responses=responses(NotFound))
async def get(deployment_id: DeploymentId, scope: Reader, session: Session) -> DeploymentOut:
    """One deployment, and whether it is live."""
    return await _shown(session, scope, deployment_id)


@router.post(
    "/v1/deployments/{deployment_id}/rollback",
    status_code=202,
    operation_id="roll_back_deployment",
    responses=responses(
        Forbidden,
        NotFound,
        NothingBefore,
        GateNotPassed,
        ShareExceeded,
        RequestInFlight,
        IdempotencyKeyReused,
    ),
)
async def roll_back(
    deployment_id: DeploymentId,
    request: Request,
    caller: Caller,
    scope: Runner,
    session: Session,
    request_once: OnceForRunner,
) -> DeploymentOut:
    """Deploy again what this deployment took the place of, with the schema version that was served then."""
    most = request.app.state.settings.tenant_adapters
    row = await service.roll_back(session, scope, caller.key_id, deployment_id, most)
    return await request_once.keep(session, 202, await _shown(session, scope, row.id))


@router.get(
    "/v1/schemas/{schema_id}/serving", operation_id="get_schema_serving", responses=responses(NotFound)
)
async def serving(schema_id: SchemaId, scope: Reader, session: Session) -> ServingOut:
    """What answers for a schema now, with which of its versions, and how its newest edit stands."""
    return ServingOut.of(schema_id, await service.state(session, scope, schema_id))


async def _shown(session: AsyncSession, scope: TenantScope, deployment_id: UUID) -> DeploymentOut:
    found = await service.get(session, scope, deployment_id)
    return DeploymentOut.of(found, await service.job_of(session, scope, deployment_id))
