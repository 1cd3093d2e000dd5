from collections.abc import Sequence
from datetime import date
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.scope import TenantScope
from app.infra.tables.records import UsageDay


class Use(NamedTuple):
    """What is to be added to a tenant's day."""

    tenant_id: UUID
    day: date
    requests: int
    prompt_tokens: int
    completion_tokens: int


async def add(session: AsyncSession, uses: Sequence[Use]) -> None:
    """For tenants of all kinds, so in a session of the platform; in one order, so that two of us cannot block each
    other for good."""
    made = session.get_bind().dialect.name
    insert = postgresql.insert(UsageDay) if made == "postgresql" else sqlite.insert(UsageDay)
    statement = insert.values([use._asdict() for use in sorted(uses)])
    changed = {
        name: getattr(UsageDay, name) + statement.excluded[name]
        for name in ("requests", "prompt_tokens", "completion_tokens")
    }
    await session.execute(statement.on_conflict_do_update(index_elements=["tenant_id", "day"], set_=changed))


async def days(session: AsyncSession, scope: TenantScope, first: date, last: date) -> list[UsageDay]:
    """Newest first, both ends included; days without use are missing."""
    query = (
        select(UsageDay)
        .where(UsageDay.tenant_id == scope.tenant_id, UsageDay.day >= first, UsageDay.day <= last)
        .order_by(UsageDay.day.desc())
    )
    return list(await session.scalars(query))
