"""The audit trail of one owner: a tenant, or (tenant_id None) the platform; and the chains, of all of them."""

from collections.abc import AsyncIterator, Collection
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import and_, func, select, text, true
from sqlalchemy.ext.asyncio import AsyncSession

from app.http.paging import PageRequest
from app.infra.db.clock import now
from app.infra.tables.auth import Person
from app.infra.tables.records import AuditEvent, AuditLink


class Filter(NamedTuple):
    """None: any."""

    action: str | None = None
    subject: str | None = None


class NamedEvent(NamedTuple):
    """person: what the one who did it is called, where it was a person of the same tenant."""

    event: AuditEvent
    person: str | None


async def listed(
    session: AsyncSession, tenant_id: UUID | None, paging: PageRequest, only: Filter
) -> list[NamedEvent]:
    called = func.coalesce(Person.name, Person.subject)
    whose = and_(Person.id == AuditEvent.actor_key_id, Person.tenant_id == AuditEvent.tenant_id)
    query = select(AuditEvent, called).outerjoin(Person, whose).where(AuditEvent.tenant_id == tenant_id)
    if only.action is not None:
        query = query.where(AuditEvent.action == only.action)
    if only.subject is not None:
        query = query.where(AuditEvent.subject == only.subject)
    rows = await session.execute(paging.newest_first(query, AuditEvent.at, AuditEvent.id))
    return [NamedEvent(event, person) for event, person in rows]


# ---------------------------------------------------------------------------------------------------------- chains

_OVERLAP = timedelta(
    minutes=10
)  # longer than a transaction lasts: what was committed late is found all the same
_LOCK = 0x5735A0D1  # ours among PostgreSQL's advisory locks


async def lock_chains(session: AsyncSession) -> None:
    """One writer at a time, until the end of the transaction. On SQLite every writer is alone."""
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


async def unlinked(session: AsyncSession, limit: int) -> list[AuditEvent]:
    """In the order of their times, as far as they are there by now."""
    last = await session.scalar(
        select(AuditEvent.at)
        .join(AuditLink, AuditLink.id == AuditEvent.id)
        .order_by(AuditLink.linked_at.desc())
        .limit(1)
    )
    recent = true() if last is None else AuditEvent.at > last - _OVERLAP
    query = (
        select(AuditEvent)
        .outerjoin(AuditLink, AuditLink.id == AuditEvent.id)
        .where(recent, AuditLink.id.is_(None))
        .order_by(AuditEvent.at, AuditEvent.id)
        .limit(limit)
    )
    return list(await session.scalars(query))


async def count_unlinked(session: AsyncSession, older_than_s: float) -> int:
    query = (
        select(func.count(AuditEvent.id))
        .outerjoin(AuditLink, AuditLink.id == AuditEvent.id)
        .where(AuditLink.id.is_(None), AuditEvent.at <= now(-older_than_s))
    )
    return await session.scalar(query) or 0


async def heads(session: AsyncSession, chains: Collection[str]) -> dict[str, AuditLink]:
    last = (
        select(AuditLink.chain, func.max(AuditLink.number).label("number"))
        .where(AuditLink.chain.in_(chains))
        .group_by(AuditLink.chain)
        .subquery()
    )
    query = select(AuditLink).join(
        last, and_(AuditLink.chain == last.c.chain, AuditLink.number == last.c.number)
    )
    return {row.chain: row for row in await session.scalars(query)}


async def linked(session: AsyncSession) -> AsyncIterator[tuple[AuditLink, AuditEvent | None]]:
    """Every link with its event, chain by chain in their order; None where the event is gone."""
    query = (
        select(AuditLink, AuditEvent)
        .outerjoin(AuditEvent, AuditEvent.id == AuditLink.id)
        .order_by(AuditLink.chain, AuditLink.number)
        .execution_options(yield_per=500)
    )
    async for link, event in await session.stream(query):
        yield link, event
