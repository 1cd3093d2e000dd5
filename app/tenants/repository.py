"""Tenants themselves. A tenant's own row is found through its scope; all of them only by an admin of the platform."""

from uuid import UUID

from sqlalchemy import ColumnElement, case, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.http.paging import PageRequest
from app.infra.db.scope import TenantScope
from app.infra.tables.tenants import HeldBytes, HeldKind, Tenant


async def get(session: AsyncSession, scope: TenantScope) -> Tenant | None:
    return await session.scalar(
        select(Tenant).where(Tenant.id == scope.tenant_id, Tenant.deleted_at.is_(None))
    )


async def listed(session: AsyncSession, paging: PageRequest) -> list[Tenant]:
    there = select(Tenant).where(Tenant.deleted_at.is_(None))
    query = paging.newest_first(there, Tenant.created_at, Tenant.id)
    return list(await session.scalars(query))


async def lock(session: AsyncSession, scope: TenantScope) -> Tenant:
    """So that two requests cannot both take what is left of something."""
    return (await session.scalars(select(Tenant).where(Tenant.id == scope.tenant_id).with_for_update())).one()


async def held_bytes(session: AsyncSession, scope: TenantScope) -> dict[tuple[HeldKind, UUID], int]:
    rows = await session.execute(
        select(HeldBytes.kind, HeldBytes.holder, HeldBytes.size_bytes).where(
            HeldBytes.tenant_id == scope.tenant_id
        )
    )
    return {(kind, holder): size for kind, holder, size in rows}


async def set_held(
    session: AsyncSession, scope: TenantScope, kind: HeldKind, holder: UUID, size_bytes: int
) -> None:
    """Call with the tenant locked."""
    own = _held(scope, kind, holder)
    found = await session.scalar(select(HeldBytes.holder).where(*own))
    if found is None:
        session.add(HeldBytes(tenant_id=scope.tenant_id, kind=kind, holder=holder, size_bytes=size_bytes))
        await session.flush()
    else:
        change = update(HeldBytes).where(*own).values(size_bytes=size_bytes)
        await session.execute(change, execution_options={"synchronize_session": False})


async def change_held(
    session: AsyncSession, scope: TenantScope, kind: HeldKind, holder: UUID, change_bytes: int
) -> bool:
    """Without a look at it first, so that nobody has to be waited for and nobody's change is lost.

    False: nothing was held, and nothing is."""
    size = HeldBytes.size_bytes + change_bytes
    change = update(HeldBytes).where(*_held(scope, kind, holder))
    change = change.values(size_bytes=case((size < 0, 0), else_=size)).returning(HeldBytes.holder)
    found = await session.scalars(change, execution_options={"synchronize_session": False})
    return found.one_or_none() is not None


async def drop_held(session: AsyncSession, scope: TenantScope, kind: HeldKind, holder: UUID) -> None:
    change = delete(HeldBytes).where(*_held(scope, kind, holder))
    await session.execute(change, execution_options={"synchronize_session": "fetch"})


def _held(scope: TenantScope, kind: HeldKind, holder: UUID) -> tuple[ColumnElement[bool], ...]:
    return (HeldBytes.tenant_id == scope.tenant_id, HeldBytes.kind == kind, HeldBytes.holder == holder)
