"""Who asks for an answer."""

from typing import Annotated

from fastapi import Depends

from app.auth.dependencies import Caller, tenant_scope
from app.auth.principal import Scope
from app.classify.live import ClassifyCaller
from app.infra.db.scope import TenantScope


async def _caller(
    caller: Caller, scope: Annotated[TenantScope, Depends(tenant_scope(Scope.classify, cached=True))]
) -> ClassifyCaller:
    return ClassifyCaller(scope, caller.may(frozenset({Scope.playground})))


Client = Annotated[ClassifyCaller, Depends(_caller)]
