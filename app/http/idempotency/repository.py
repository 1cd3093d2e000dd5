"""Answers that were given under an Idempotency-Key, to be given again."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.scope import TenantScope
from app.infra.tables.records import IdempotencyKey


async def find(session: AsyncSession, scope: TenantScope, key: str, route: str) -> IdempotencyKey | None:
    query = select(IdempotencyKey).where(
        IdempotencyKey.tenant_id == scope.tenant_id,
        IdempotencyKey.key == key,
        IdempotencyKey.route == route,
    )
    return await session.scalar(query)


async def complete(
    session: AsyncSession, scope: TenantScope, reservation: UUID, status: int, response: dict[str, Any]
) -> bool:
    """False where the reservation is gone: it had grown old, and another request took it over."""
    change = (
        update(IdempotencyKey)
        .where(
            IdempotencyKey.tenant_id == scope.tenant_id,
            IdempotencyKey.id == reservation,
            IdempotencyKey.status_code.is_(None),
        )
        .values(status_code=status, response=response)
    )
    changed = await session.execute(change)
    assert isinstance(changed, CursorResult)
    return changed.rowcount == 1


async def release(session: AsyncSession, scope: TenantScope, reservation: UUID) -> None:
    await session.execute(
        delete(IdempotencyKey).where(
            IdempotencyKey.tenant_id == scope.tenant_id,
            IdempotencyKey.id == reservation,
            IdempotencyKey.status_code.is_(None),
        )
    )


async def forget(
    session: AsyncSession, scope: TenantScope, answered_before: datetime, begun_before: datetime
) -> None:
    """Answers that are old enough, and requests that were begun so long ago that their process must have died."""
    mine = IdempotencyKey.tenant_id == scope.tenant_id
    await session.execute(delete(IdempotencyKey).where(mine, IdempotencyKey.created_at < answered_before))
    unanswered = IdempotencyKey.status_code.is_(None)
    await session.execute(
        delete(IdempotencyKey).where(mine, unanswered, IdempotencyKey.created_at < begun_before)
    )
