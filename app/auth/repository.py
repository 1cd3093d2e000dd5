"""Keys of one owner: a tenant, or (tenant_id None) the platform. Only `find` does not know yet whose key it is, and
keys that made one another may be of two owners."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.principal import Identity
from app.http.paging import PageRequest
from app.infra.tables.auth import ApiKey, Person
from app.infra.tables.tenants import Tenant


async def find(session: AsyncSession, prefix: str) -> ApiKey | None:
    return await session.scalar(select(ApiKey).where(ApiKey.prefix == prefix))


async def any_owners(session: AsyncSession, key_id: UUID) -> ApiKey | None:
    """None also where the session may not see it."""
    return await session.scalar(select(ApiKey).where(ApiKey.id == key_id))


async def children(session: AsyncSession, key_id: UUID) -> list[ApiKey]:
    return list(await session.scalars(select(ApiKey).where(ApiKey.parent_id == key_id)))


async def note_use(session: AsyncSession, key_id: UUID, at: datetime, unless_after: datetime) -> None:
    stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < unless_after)
    await session.execute(update(ApiKey).where(ApiKey.id == key_id, stale).values(last_used_at=at))


async def person(session: AsyncSession, person_id: UUID) -> Person | None:
    return await session.scalar(select(Person).where(Person.id == person_id))


async def note_person(
    session: AsyncSession, person_id: UUID, tenant_id: UUID, identity: Identity, at: datetime
) -> None:
    """Two first requests of one person may come at the same moment."""
    made = session.get_bind().dialect.name
    insert = postgresql.insert(Person) if made == "postgresql" else sqlite.insert(Person)
    values = {
        **identity._asdict(),
        "id": person_id,
        "tenant_id": tenant_id,
        "last_seen_at": at,
        "created_at": at,
    }
    changed = {"name": identity.name, "last_seen_at": at}
    await session.execute(insert.values(values).on_conflict_do_update(index_elements=["id"], set_=changed))


async def get(session: AsyncSession, tenant_id: UUID | None, key_id: UUID) -> ApiKey | None:
    return await session.scalar(select(ApiKey).where(ApiKey.tenant_id == tenant_id, ApiKey.id == key_id))


async def listed(session: AsyncSession, tenant_id: UUID | None, paging: PageRequest) -> list[ApiKey]:
    query = select(ApiKey).where(ApiKey.tenant_id == tenant_id)
    return list(await session.scalars(paging.newest_first(query, ApiKey.created_at, ApiKey.id)))


async def all_of(session: AsyncSession, tenant_id: UUID | None, name: str | None = None) -> list[ApiKey]:
    """name: only the keys of this name."""
    query = select(ApiKey).where(ApiKey.tenant_id == tenant_id)
    return list(await session.scalars(query if name is None else query.where(ApiKey.name == name)))


async def lock_owner(session: AsyncSession, tenant_id: UUID | None) -> None:
    """Until the end of the transaction, so that two requests cannot both make the last allowed key."""
    if tenant_id is None:
        rows = select(ApiKey.id).where(ApiKey.tenant_id.is_(None)).order_by(ApiKey.id)
        await session.execute(rows.with_for_update())
    else:
        await session.execute(select(Tenant.id).where(Tenant.id == tenant_id).with_for_update())


async def tenant_exists(session: AsyncSession, tenant_id: UUID) -> bool:
    there = select(Tenant.id).where(Tenant.id == tenant_id, Tenant.deleted_at.is_(None))
    return await session.scalar(there) is not None


async def tenant_name(session: AsyncSession, tenant_id: UUID) -> str | None:
    return await session.scalar(select(Tenant.name).where(Tenant.id == tenant_id))
