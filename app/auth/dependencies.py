"""From the key of a request to what the request may do and see. Endpoints of every slice take these.

A key is looked up in a transaction of its own that is over before the endpoint begins: an endpoint that waits for a
model, or for somebody else's upload, then holds no connection.
"""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Annotated, NamedTuple
from uuid import UUID

import structlog
from fastapi import Depends, Header, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.auth import repository, service
from app.auth.principal import Principal, Scope
from app.auth.service import RefusedKey
from app.errors import Forbidden, InvalidRequest, NotFound, Problem, Unauthorized
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import show_platform, show_tenant, transaction

bearer = HTTPBearer(
    auto_error=False, scheme_name="ApiKey", description="An API key: `Authorization: Bearer sw_…`."
)
XTenant = Annotated[
    UUID | None,
    Header(
        description="The tenant that is meant. Platform admins need it; with a tenant's own key it may be left out.",
        examples=["7d9f1c2e-5b7a-4c53-9d57-0a4f7c1f2b11"],
    ),
]


class Owner(NamedTuple):
    """tenant_id: None for the platform itself."""

    tenant_id: UUID | None


async def authenticated(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Principal:
    """Raises: Unauthorized."""
    if credentials is None:
        raise Unauthorized("send an API key: Authorization: Bearer sw_…")
    database: Database = request.app.state.database
    try:
        async with transaction(database, read_only=True) as session:
            row = await service.verify(session, credentials.credentials)
    except RefusedKey as refused:
        request.app.state.refused_keys.note(refused)
        raise
    if service.use_is_to_be_noted(row):
        async with transaction(database) as session:
            await service.note_use(session, row)
    structlog.contextvars.bind_contextvars(key_id=str(row.id))
    if row.tenant_id is not None:
        structlog.contextvars.bind_contextvars(tenant_id=str(row.tenant_id))
    request.state.caller = principal = service.principal_of(row)
    return principal


Caller = Annotated[Principal, Depends(authenticated)]


@cache  # one function for equal scopes, so that FastAPI calls it once a request
def tenant_scope(*needed: Scope) -> Callable[..., Awaitable[TenantScope]]:
    """The tenant that this request is about; its session sees that tenant's rows and no others.

    Without scopes any key of the tenant will do, which is what reading needs.
    Raises: Forbidden, InvalidRequest, NotFound.
    """

    async def scoped(request: Request, caller: Caller, x_tenant: XTenant = None) -> TenantScope:
        _check_scopes(caller, needed)
        owner = await _owner(request, caller, x_tenant)
        if owner.tenant_id is None:
            problem = Problem("header.x-tenant", "a platform admin names the tenant that is meant")
            raise InvalidRequest(f"{problem.where}: {problem.message}", problems=[problem])
        scope = TenantScope(owner.tenant_id)
        show_tenant(request, scope)
        return scope

    return scoped


async def own_sight(request: Request, caller: Caller) -> Principal:
    """The caller, whose session sees what is its own: its tenant, or (an admin of the platform) everything."""
    if caller.tenant_id is None:
        show_platform(request)
    else:
        show_tenant(request, TenantScope(caller.tenant_id))
    return caller


async def key_owner(request: Request, caller: Caller, x_tenant: XTenant = None) -> Owner:
    """For an admin: its tenant; for one of the platform: the tenant that it names, or the platform.

    Raises: Forbidden, NotFound.
    """
    _check_scopes(caller, (Scope.admin,))
    owner = await _owner(request, caller, x_tenant)
    if owner.tenant_id is None:
        show_platform(request)
    else:
        show_tenant(request, TenantScope(owner.tenant_id))
    return owner


OwnSight = Annotated[Principal, Depends(own_sight)]


async def platform_admin(caller: OwnSight) -> Principal:
    """Raises: Forbidden."""
    if not caller.is_platform_admin:
        raise Forbidden("only an admin of the platform may do this")
    return caller


AnyTenant = Annotated[TenantScope, Depends(tenant_scope())]
PlatformAdmin = Annotated[Principal, Depends(platform_admin)]
KeyOwner = Annotated[Owner, Depends(key_owner)]


def _check_scopes(caller: Principal, needed: tuple[Scope, ...]) -> None:
    if not caller.may(frozenset(needed)):
        raise Forbidden(f"this needs a key with the scope {' and '.join(needed)}")


async def _owner(request: Request, caller: Principal, x_tenant: UUID | None) -> Owner:
    if caller.tenant_id is not None:
        if x_tenant not in (None, caller.tenant_id):
            raise NotFound("there is no such tenant")
        return Owner(caller.tenant_id)
    if x_tenant is not None:
        async with transaction(request.app.state.database, read_only=True) as session:
            if not await repository.tenant_exists(session, x_tenant):
                raise NotFound("there is no such tenant")
        structlog.contextvars.bind_contextvars(tenant_id=str(x_tenant))
    return Owner(x_tenant)
