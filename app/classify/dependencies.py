"""Who asks for an answer."""

from typing import Annotated

from fastapi import Depends

from app.auth.dependencies import tenant_scope
from app.auth.principal import Scope
from app.infra.db.scope import TenantScope

Client = Annotated[TenantScope, Depends(tenant_scope(Scope.classify, remembered=True))]
