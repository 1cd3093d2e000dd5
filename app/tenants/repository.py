"""Tenants themselves. A tenant's own row is found through its scope; all of them only by an admin of the platform."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.http.paging import PageRequest
from app.infra.db.scope import TenantScope
from app.infra.tables.tenants import Tenant


async def get(session: AsyncSession, scope: TenantScope) -> Tenant | None:
    return await session.scalar(select(Tenant).where(Tenant.id == scope.tenant_id))


async def listed(session: AsyncSession, paging: PageRequest) -> list[Tenant]:
    query = paging.newest_first(select(Tenant), Tenant.created_at, Tenant.id)
    return list(await session.scalars(query))
