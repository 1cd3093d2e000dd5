"""What there is, of every tenant: for whoever runs the installation."""

from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.clock import now
from app.infra.tables.jobs import Job, JobKind, JobState
from app.infra.tables.processes import Process, ProcessKind

FORGOTTEN_S = 86_400.0  # a row of one that was killed stays so long, for whoever asks what happened


class Waiting(NamedTuple):
    """Jobs of a kind that could be done now. oldest_s: since the one that has waited longest could."""

    kind: JobKind
    count: int
    oldest_s: float


class Counted(NamedTuple):
    kind: JobKind
    state: JobState
    count: int


async def note_seen(session: AsyncSession, values: dict[str, Any]) -> None:
    """values: of the row, which is made where there is none."""
    seen = update(Process).where(Process.id == values["id"]).values(seen_at=now()).returning(Process.id)
    if (await session.scalar(seen)) is not None:
        return
    await session.execute(insert(Process).values(values | {"started_at": now(), "seen_at": now()}))
    await session.execute(delete(Process).where(Process.seen_at < now(-FORGOTTEN_S)))


async def forget(session: AsyncSession, process_id: UUID) -> None:
    await session.execute(delete(Process).where(Process.id == process_id))


async def alive(session: AsyncSession, within_s: float) -> list[Process]:
    query = select(Process).where(Process.seen_at > now(-within_s))
    return list(await session.scalars(query.order_by(Process.kind, Process.started_at)))


async def waiting(session: AsyncSession) -> list[Waiting]:
    could = (Job.state == JobState.queued, Job.available_at <= now())
    query = select(Job.kind, func.count(), func.min(Job.available_at)).where(*could).group_by(Job.kind)
    clock = await session.scalar(select(now()))
    assert clock is not None
    rows = await session.execute(query)
    return [Waiting(kind, count, max(0.0, (clock - oldest).total_seconds())) for kind, count, oldest in rows]


async def counted(session: AsyncSession) -> list[Counted]:
    rows = await session.execute(select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state))
    return [Counted(*row) for row in rows]


async def silent_s(session: AsyncSession) -> float:
    """Since the last sign of life of the running job that has been silent longest; 0.0 where none runs."""
    clock = now()
    heard = func.min(func.coalesce(Job.heartbeat_at, Job.started_at))
    row = (await session.execute(select(clock, heard).where(Job.state == JobState.running))).one()
    return 0.0 if row[1] is None else max(0.0, (row[0] - row[1]).total_seconds())


async def count_of(session: AsyncSession, kind: ProcessKind, within_s: float) -> int:
    query = select(func.count()).select_from(Process)
    return await session.scalar(query.where(Process.kind == kind, Process.seen_at > now(-within_s))) or 0
