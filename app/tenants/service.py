from typing import Any
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service as audit
from app.audit.service import Act
from app.auth.principal import Principal
from app.errors import Forbidden, NameTaken, existing
from app.infra.db.scope import TenantScope
from app.infra.tables.tenants import Tenant
from app.tenants import repository

PLATFORM_ONLY = frozenset({"upload_quota_bytes"})  # a tenant must not raise its own limit


async def create(session: AsyncSession, actor_key_id: UUID, settings: dict[str, Any]) -> Tenant:
    """settings: columns of `Tenant`, the name among them. Raises: NameTaken."""
    tenant = Tenant(**settings)
    session.add(tenant)
    try:
        await session.flush()
    except IntegrityError:
        raise NameTaken(f"another tenant is named {tenant.name!r}") from None
    audit.record(
        session, actor_key_id, tenant.id, Act("tenant.created", f"tenant:{tenant.id}", {"name": tenant.name})
    )
    return tenant


async def get(session: AsyncSession, scope: TenantScope) -> Tenant:
    """Raises: NotFound."""
    return existing(await repository.get(session, scope), "tenant")


async def change(
    session: AsyncSession, scope: TenantScope, caller: Principal, settings: dict[str, Any]
) -> Tenant:
    """settings: the columns to change. Raises: Forbidden, NotFound."""
    if PLATFORM_ONLY & settings.keys() and not caller.is_platform_admin:
        raise Forbidden(f"only an admin of the platform may change {' and '.join(sorted(PLATFORM_ONLY))}")
    tenant = await get(session, scope)
    for name, value in settings.items():
        setattr(tenant, name, value)
    audit.record(
        session, caller.key_id, tenant.id, Act("tenant.changed", f"tenant:{tenant.id}", dict(settings))
    )
    return tenant
