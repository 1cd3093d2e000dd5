"""The audit trail of one owner: a tenant, or (tenant_id None) the platform."""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.http.paging import PageRequest
from app.infra.tables.records import AuditEvent


class Filter(NamedTuple):
    """None: any."""

    action: str | None = None
    subject: str | None = None


async def listed(
    session: AsyncSession, tenant_id: UUID | None, paging: PageRequest, only: Filter
) -> list[AuditEvent]:
    query = select(AuditEvent).where(AuditEvent.tenant_id == tenant_id)
    if only.action is not None:
        query = query.where(AuditEvent.action == only.action)
    if only.subject is not None:
        query = query.where(AuditEvent.subject == only.subject)
    return list(await session.scalars(paging.newest_first(query, AuditEvent.at, AuditEvent.id)))
