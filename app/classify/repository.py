from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.scope import TenantScope
from app.infra.tables.schemas import Schema


async def schema_id_of(session: AsyncSession, scope: TenantScope, name: str) -> UUID | None:
    query = select(Schema.id).where(Schema.tenant_id == scope.tenant_id, Schema.name == name)
    return await session.scalar(query)
