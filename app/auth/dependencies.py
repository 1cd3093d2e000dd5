"""From the key of a request, or a person's token, to what it may do and see. Endpoints of every slice take these.

A key is looked up in a transaction of its own that is over before the endpoint begins: an endpoint that waits for a
model, or for somebody else's upload, then holds no connection.
"""

import hashlib
from collections.abc import Awaitable, Callable
from functools import cache, partial
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import structlog
from fastapi import Depends, Header, Request
from fastapi.security import HTTPBearer

from app.auth import people, repository, service
from app.auth.access import Access, declares
from app.auth.principal import Principal, Scope
from app.auth.service import RefusedKey
from app.auth.tokens import PersonTokens, is_token
from app.errors import InvalidRequest, NotFound, Problem, Unauthorized
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import show_platform, show_tenant, transaction

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="An API key: `Authorization: Bearer sw_…`. Where the installation has an OIDC issuer, also a person's "
    "access token.",
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


async def admit(request: Request, access: Access) -> Principal:
    """Whoever the key or the token in the header belongs to, if they may do this. Nothing of the body is read.

    Raises: Forbidden, Unauthorized.
    """
    credentials = await bearer(request)
    if credentials is None:
        raise Unauthorized("send an API key: Authorization: Bearer sw_…")
    state = request.app.state
    look = partial(_verified, request, credentials.credentials)
    if access.cached:
        digest = hashlib.sha256(credentials.credentials.encode()).digest()
        caller: Principal = await state.callers.of(digest, look)
    else:
        caller = await look()
    who = "key_id" if caller.identity is None else "person_id"
    structlog.contextvars.bind_contextvars(**{who: str(caller.key_id)})
    if caller.tenant_id is not None:
        structlog.contextvars.bind_contextvars(tenant_id=str(caller.tenant_id))
    access.check(caller)
    request.state.caller = caller
    return caller


async def _verified(request: Request, text: str) -> Principal:
    """Raises: Unauthorized, Unavailable; who is refused is counted."""
    state = request.app.state
    tokens: PersonTokens | None = state.tokens
    try:
        if tokens is not None and is_token(text):
            return await people.come_in(state.database, tokens, text)
        return await _of_key(state.database, text)
    except RefusedKey as refused:
        state.refused_keys.note(refused)
        raise


async def _of_key(database: Database, text: str) -> Principal:
    async with transaction(database, read_only=True) as session:
        row = await service.verify(session, text)
    if service.use_is_to_be_noted(row):
        async with transaction(database) as session:
            await service.note_use(session, row)
    return service.principal_of(row)


async def authenticated(request: Request, _shown: Annotated[Any, Depends(bearer)]) -> Principal:
    """Whom the route has let in. _shown: so that the document has the scheme."""
    caller: Principal = request.state.caller
    return caller


Caller = Annotated[Principal, Depends(authenticated)]


@cache  # one function for equal scopes, so that FastAPI calls it once a request
def tenant_scope(*needed: Scope, cached: bool = False) -> Callable[..., Awaitable[TenantScope]]:
    """The tenant that this request is about; its session sees that tenant's rows and no others.

    needed: declared for the whole operation, as is `cached` (see `Access`). Raises: InvalidRequest, NotFound.
    """

    @declares(Access(frozenset(needed), cached=cached))
    async def scoped(request: Request, caller: Caller, x_tenant: XTenant = None) -> TenantScope:
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


@declares(Access(frozenset({Scope.admin})))
async def key_owner(request: Request, caller: Caller, x_tenant: XTenant = None) -> Owner:
    """For an admin: its tenant; for one of the platform: the tenant that it names, or the platform.

    Raises: NotFound.
    """
    owner = await _owner(request, caller, x_tenant)
    if owner.tenant_id is None:
        show_platform(request)
    else:
        show_tenant(request, TenantScope(owner.tenant_id))
    return owner


OwnSight = Annotated[Principal, Depends(own_sight)]


@declares(Access(frozenset({Scope.admin}), of_platform=True))
async def platform_admin(caller: OwnSight) -> Principal:
    return caller


PlatformAdmin = Annotated[Principal, Depends(platform_admin)]
KeyOwner = Annotated[Owner, Depends(key_owner)]


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
