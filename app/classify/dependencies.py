"""Who asks for an answer. A key that was checked within the last second is not looked up again: the look-up would cost
more than all the rest of an answer that is ours. One that was revoked is refused a second later."""

import hashlib
from functools import partial
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials

from app.auth.dependencies import XTenant, authenticated, bearer, tenant_scope
from app.auth.principal import Principal, Scope
from app.classify.live import Asker
from app.classify.service import ServingContext
from app.errors import Forbidden
from app.infra.db.scope import TenantScope


async def _caller(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Principal:
    """Raises: Unauthorized."""
    if credentials is None:
        return await authenticated(request, credentials)
    serving_context: ServingContext = request.app.state.serving_context
    digest = hashlib.sha256(credentials.credentials.encode()).digest()
    caller = await serving_context.callers.of(digest, partial(authenticated, request, credentials))
    structlog.contextvars.bind_contextvars(key_id=str(caller.key_id))
    if caller.tenant_id is not None:
        structlog.contextvars.bind_contextvars(tenant_id=str(caller.tenant_id))
    return caller


async def _client(
    request: Request, caller: Annotated[Principal, Depends(_caller)], x_tenant: XTenant = None
) -> TenantScope:
    """Raises: Forbidden, InvalidRequest, NotFound."""
    if not caller.may(frozenset({Scope.classify})) and not _plays(caller):
        raise Forbidden(f"this needs a key with the scope {Scope.classify} or {Scope.playground}")
    return await tenant_scope()(request, caller, x_tenant)


async def _asker(
    caller: Annotated[Principal, Depends(_caller)], scope: Annotated[TenantScope, Depends(_client)]
) -> Asker:
    return Asker(scope, _plays(caller))


def _plays(caller: Principal) -> bool:
    return caller.may(frozenset({Scope.playground}))


Client = Annotated[Asker, Depends(_asker)]
