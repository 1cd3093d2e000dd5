from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path

from app.auth.access import needs
from app.auth.dependencies import OwnSight, PlatformAdmin
from app.auth.principal import Scope
from app.auth.route import keyed_router
from app.errors import Forbidden, NameTaken, NotFound
from app.http.paging import Page, Paging
from app.http.problems import responses
from app.infra.db.scope import TenantScope
from app.infra.db.session import Session
from app.tenants import repository, service
from app.tenants.payloads import TenantIn, TenantOut, TenantPatch

router = keyed_router("/v1/tenants", tags=["tenants"])


async def _named_in_path(
    tenant_id: Annotated[
        UUID, Path(description="Id of a tenant.", examples=["7d9f1c2e-5b7a-4c53-9d57-0a4f7c1f2b11"])
    ],
    caller: OwnSight,
) -> TenantScope:
    """A tenant's own key reaches its own tenant only."""
    if caller.tenant_id not in (None, tenant_id):
        raise NotFound("there is no such tenant")
    return TenantScope(tenant_id)


InPath = Annotated[TenantScope, Depends(_named_in_path)]


@router.post("", status_code=201, operation_id="create_tenant", responses=responses(Forbidden, NameTaken))
async def create(body: TenantIn, caller: PlatformAdmin, session: Session) -> TenantOut:
    """Make a tenant; an admin of the platform may. Its first key comes from `POST /v1/api-keys` with `X-Tenant`."""
    return TenantOut.of(await service.create(session, caller.key_id, body.model_dump()))


@router.get("", operation_id="list_tenants", responses=responses(Forbidden))
async def listed(_caller: PlatformAdmin, session: Session, paging: Paging) -> Page[TenantOut]:
    """All tenants; for an admin of the platform."""
    return paging.page(await repository.listed(session, paging), TenantOut.of)


@router.get(
    "/{tenant_id}",
    operation_id="get_tenant",
    responses=responses(Forbidden, NotFound),
    dependencies=[Depends(needs(Scope.tenant_read))],
)
async def get(scope: InPath, session: Session) -> TenantOut:
    """One tenant: the key's own, or any for an admin of the platform."""
    return TenantOut.of(await service.get(session, scope))


@router.patch(
    "/{tenant_id}",
    operation_id="change_tenant",
    responses=responses(Forbidden, NotFound),
    dependencies=[Depends(needs(Scope.admin))],
)
async def change(body: TenantPatch, scope: InPath, caller: OwnSight, session: Session) -> TenantOut:
    """Change settings; what is left out stays as it is."""
    return TenantOut.of(await service.change(session, scope, caller, body.changes()))
