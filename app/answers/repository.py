"""Answers that are kept. One whose time is over is no longer there, swept or not."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.answers.filters import AnswerFilter
from app.http.paging import PageRequest
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.infra.tables.answers import KeptAnswer
from app.infra.tables.tenants import HeldKind, Tenant
from app.tenants import share
from evaluation.formats.redaction import Redaction

SWEPT_AT_ONCE = 1000
_WORDS = ("messages", "reasoning", "evidence", "extra")


def until(created_at: datetime, days: int) -> dict[str, datetime]:
    return {"expires_at": created_at + timedelta(days=days)}


class HowKept(NamedTuple):
    days: int
    redaction: Redaction


async def how_kept(session: AsyncSession, tenants: Collection[UUID]) -> dict[UUID, HowKept]:
    """Of those tenants that keep answers; in a session of the platform."""
    query = select(Tenant.id, Tenant.keep_answers_days, Tenant.redact_names).where(
        Tenant.id.in_(tenants), Tenant.keep_answers_days.is_not(None)
    )
    return {
        row[0]: HowKept(row[1] or 0, Redaction.names_too if row[2] else Redaction.by_form)
        for row in await session.execute(query)
    }


def size_of(row: dict[str, Any]) -> int:
    """Bytes of its words, as they count in a quota."""
    return share.size_of([row[name] for name in _WORDS])


async def hold(session: AsyncSession, scope: TenantScope, rows: Sequence[dict[str, Any]]) -> int:
    """How many of them, the first first, the tenant's quota has room for; from now on it has their bytes."""
    room = await share.room_bytes(session, scope)
    sizes = list(accumulate(row["size_bytes"] for row in rows))
    fit = bisect_right(sizes, room)
    if fit:
        await share.take(session, scope, HeldKind.answers, scope.tenant_id, sizes[fit - 1])
    return fit


async def _remove(session: AsyncSession, *which: ColumnElement[bool]) -> int:
    """With their bytes. Returns how many."""
    statement = delete(KeptAnswer).where(*which).returning(KeptAnswer.tenant_id, KeptAnswer.size_bytes)
    gone = (await session.execute(statement, execution_options={"synchronize_session": False})).all()
    sizes = Counter[UUID]()
    for tenant_id, size in gone:
        sizes[tenant_id] += size
    for tenant_id, size in sorted(sizes.items()):
        await share.give_back(session, TenantScope(tenant_id), HeldKind.answers, tenant_id, size)
    return len(gone)


async def add(session: AsyncSession, rows: Sequence[dict[str, Any]]) -> None:
    """rows: every column; of tenants of all kinds, so in a session of the platform."""
    await session.execute(insert(KeptAnswer), rows)


async def one(
    session: AsyncSession, scope: TenantScope, answer_id: UUID, *, lock: bool = False
) -> KeptAnswer | None:
    query = select(KeptAnswer).where(*await _is_there(session, scope), KeptAnswer.id == answer_id)
    return await session.scalar(query.with_for_update() if lock else query)


async def listed(
    session: AsyncSession, scope: TenantScope, wanted: AnswerFilter, paging: PageRequest
) -> list[KeptAnswer]:
    query = wanted.of(select(KeptAnswer).where(*await _is_there(session, scope)))
    return list(await session.scalars(paging.newest_first(query, KeptAnswer.created_at, KeptAnswer.id)))


async def sizes(
    session: AsyncSession, scope: TenantScope, wanted: AnswerFilter, paging: PageRequest
) -> list[int]:
    """Of the answers of a page, in bytes."""
    query = wanted.of(select(KeptAnswer.size_bytes).where(*await _is_there(session, scope)))
    return list(await session.scalars(paging.newest_first(query, KeptAnswer.created_at, KeptAnswer.id)))


async def remove(
    session: AsyncSession,
    scope: TenantScope,
    *,
    customer_reference: str | None = None,
    conversation_reference: str | None = None,
) -> int:
    """All that both of the references hold for, as far as they are given; one of them is."""
    assert customer_reference is not None or conversation_reference is not None
    which = [KeptAnswer.tenant_id == scope.tenant_id]
    if customer_reference is not None:
        which.append(KeptAnswer.customer_reference == customer_reference)
    if conversation_reference is not None:
        which.append(KeptAnswer.conversation_reference == conversation_reference)
    return await _remove(session, *which)


async def sweep(session: AsyncSession, now: datetime) -> int:
    """Remove some whose time is over, of every tenant. Returns how many: fewer than SWEPT_AT_ONCE when none are left.

    A tenant that keeps answers for fewer days than before means those that are there already, too.
    """
    over = await session.scalars(
        select(KeptAnswer.id).where(KeptAnswer.expires_at <= now).limit(SWEPT_AT_ONCE)
    )
    gone = list(over)
    kept_for = select(Tenant.keep_answers_days).where(Tenant.keep_answers_days.is_not(None)).distinct()
    for days in await session.scalars(kept_for):
        if len(gone) >= SWEPT_AT_ONCE:
            break
        so_long = select(Tenant.id).where(Tenant.keep_answers_days == days)
        older = select(KeptAnswer.id).where(
            KeptAnswer.tenant_id.in_(so_long),
            KeptAnswer.created_at <= now - timedelta(days=days or 0),
            KeptAnswer.expires_at > now,
        )
        gone += list(await session.scalars(older.limit(SWEPT_AT_ONCE - len(gone))))
    if gone:
        await _remove(session, KeptAnswer.id.in_(gone))
    return len(gone)


async def _is_there(session: AsyncSession, scope: TenantScope) -> tuple[ColumnElement[bool], ...]:
    """By the days for which the tenant keeps answers now, which may be fewer than when they were kept."""
    now, mine = utc_now(), KeptAnswer.tenant_id == scope.tenant_id
    days = await session.scalar(select(Tenant.keep_answers_days).where(Tenant.id == scope.tenant_id))
    if days is None:
        return mine, KeptAnswer.expires_at > now
    return mine, KeptAnswer.expires_at > now, KeptAnswer.created_at > now - timedelta(days=days)
