"""Who asks for an answer."""

from typing import Annotated

from fastapi import Depends

from app.auth.dependencies import Caller, tenant_scope
from app.auth.principal import Scope
from app.classify.live import Asker
from app.infra.db.scope import TenantScope


async def _asker(
    caller: Caller, scope: Annotated[TenantScope, Depends(tenant_scope(Scope.classify, cached=True))]
) -> Asker:
    return Asker(scope, caller.may(frozenset({Scope.playground})))


Client = Annotated[Asker, Depends(_asker)]
