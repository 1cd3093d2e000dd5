"""What there is, of every tenant: for whoever runs the installation."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Table, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.clock import now
from app.infra.db.engine import READ_ONLY
from app.infra.db.session import enter_platform
from app.infra.tables.auth import ApiKey
from app.infra.tables.jobs import Job, JobEvent, JobKind, JobState
from app.infra.tables.processes import Process, ProcessKind
from app.infra.tables.tenants import Tenant

FORGOTTEN_S = 86_400.0  # a row of one that was killed stays so long, for whoever asks what happened


class Waiting(NamedTuple):
    """Jobs of a kind that could be done now. oldest_s: since the one that has waited longest could."""

    kind: JobKind
    jobs: int
    oldest_s: float


class Counted(NamedTuple):
    kind: JobKind
    state: JobState
    jobs: int


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


# ----------------------------------------------------------------------------------------------- backups: whole tables

ROWS_AT_ONCE = 500


async def see_all_as_of_now(session: AsyncSession) -> None:
    """Everything that this session reads from now on is of one moment."""
    await enter_platform(session)
    options: dict[str, Any] = dict(READ_ONLY)
    if session.get_bind().dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"
    await session.connection(execution_options=options)


async def rows_of(session: AsyncSession, table: Table) -> AsyncIterator[dict[str, Any]]:
    """In the order of the key."""
    result = await session.stream(select(table).order_by(*table.primary_key.columns))
    async for row in result.mappings():
        yield dict(row)


async def is_empty(session: AsyncSession) -> bool:
    tenants = await session.scalar(select(func.count()).select_from(Tenant))
    return not tenants and not await session.scalar(select(func.count()).select_from(ApiKey))


async def insert_rows(session: AsyncSession, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """References that may only be there later are left out; `link_again` writes them."""
    late = _late(table)
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = session.info.setdefault("late", [])
    whole = []
    for row in rows:
        later = {name: row[name] for name in late if row[name] is not None}
        if later:
            kept.append((row, {"table": table, "values": later}))
        whole.append(row | dict.fromkeys(late))
    if whole:
        await session.execute(insert(table), whole)


async def link_again(session: AsyncSession) -> None:
    """After every table has its rows; also sets the counters of what PostgreSQL numbers."""
    for row, later in session.info.pop("late", []):
        table: Table = later["table"]
        await session.execute(update(table).where(table.c.id == row["id"]).values(later["values"]))
    if session.get_bind().dialect.name == "postgresql":
        # By counting: to set a counter takes rights that this role does not have.
        newest = select(func.coalesce(func.max(JobEvent.id), 0)).scalar_subquery()
        counted = func.nextval(func.pg_get_serial_sequence("job_events", "id"))
        await session.execute(select(func.max(counted)).select_from(func.generate_series(1, newest)))


def _late(table: Table) -> list[str]:
    """Columns that refer to the table itself, or to one that comes after it."""
    keys = [key for key in table.foreign_key_constraints if key.use_alter or key.referred_table is table]
    return [name for key in keys for name in key.column_keys if table.c[name].nullable]
