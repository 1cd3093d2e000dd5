"""Statements about jobs. Those without a scope are of the workers and the dispatcher, who serve every tenant.

A worker's statements name its ticket: `id, epoch, state = running`. Whoever lost the lease changes no row.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.infra.db.clock import now, seconds_since
from app.infra.db.scope import TenantScope
from app.infra.tables.jobs import RUNNING_SLOT, Job, JobEvent, JobKind, JobState
from app.infra.tables.processes import Maintenance, Process, ProcessKind
from app.jobs.lease import Event, SlotTaken, Ticket

NO_WORKER_FITS = "no_worker_fits"  # the code of an error that says so
OPEN = (JobState.blocked, JobState.queued, JobState.running)
_FRESH = {"populate_existing": True, "synchronize_session": False}  # rows come back as they were written
_IN_PLACE = {"synchronize_session": False}
_TELLING = ("progress", "failed", "retried", "postponed", "lost")  # events with sentences in them


class Due(NamedTuple):
    """again: it was published before, but nobody has taken it yet."""

    job_id: UUID
    kind: JobKind
    again: bool


class Needing(NamedTuple):
    """A job that could begin, and how much memory it needs. told: its record says already that it fits no worker."""

    scope: TenantScope
    id: UUID
    kind: JobKind
    needs_bytes: int
    told: bool


async def add(session: AsyncSession, scope: TenantScope, values: dict[str, Any]) -> Job:
    row = values | {"tenant_id": scope.tenant_id, "created_at": now(), "available_at": now()}
    return (await session.scalars(insert(Job).values(row).returning(Job))).one()


async def add_events(session: AsyncSession, scope: TenantScope, job: Job, events: Sequence[Event]) -> None:
    """Only while this transaction holds the job's row: then its events become visible in the order of their ids."""
    rows = [
        {"tenant_id": scope.tenant_id, "job_id": job.id, "run_id": job.run_id, "at": now(), "event": event}
        for event in events
    ]
    for row in rows:
        await session.execute(insert(JobEvent).values(row))


async def get(session: AsyncSession, scope: TenantScope, job_id: UUID) -> Job | None:
    return await session.scalar(select(Job).where(Job.tenant_id == scope.tenant_id, Job.id == job_id))


async def of_run(session: AsyncSession, scope: TenantScope, run_id: UUID) -> list[Job]:
    query = select(Job).where(Job.tenant_id == scope.tenant_id, Job.run_id == run_id)
    return list(await session.scalars(query.order_by(Job.seq, Job.created_at, Job.id)))


async def of_runs(session: AsyncSession, scope: TenantScope, run_ids: Sequence[UUID]) -> list[Job]:
    query = select(Job).where(Job.tenant_id == scope.tenant_id, Job.run_id.in_(run_ids))
    return list(await session.scalars(query.order_by(Job.seq, Job.created_at, Job.id)))


async def newest_of(session: AsyncSession, scope: TenantScope, kind: JobKind, subject_id: UUID) -> Job | None:
    query = select(Job).where(
        Job.tenant_id == scope.tenant_id, Job.kind == kind, Job.subject_id == subject_id
    )
    return await session.scalar(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(1))


async def events_after(
    session: AsyncSession, scope: TenantScope, condition: ColumnElement[bool], after: int, limit: int
) -> list[JobEvent]:
    query = select(JobEvent).where(JobEvent.tenant_id == scope.tenant_id, condition, JobEvent.id > after)
    return list(await session.scalars(query.order_by(JobEvent.id).limit(limit)))


async def newest_events(
    session: AsyncSession, scope: TenantScope, job_ids: Sequence[UUID], names: Sequence[str]
) -> list[JobEvent]:
    """Of each job the newest event that has one of these names. Looks at no more events than it must."""
    later = aliased(JobEvent)
    newest = (
        select(later.id)
        .where(later.tenant_id == scope.tenant_id, later.job_id == Job.id)
        .where(later.event["event"].as_string().in_(names))
        .order_by(later.id.desc())
        .limit(1)
        .scalar_subquery()
        .correlate(Job)
    )
    ids = select(newest).where(Job.tenant_id == scope.tenant_id, Job.id.in_(job_ids))
    query = select(JobEvent).where(JobEvent.tenant_id == scope.tenant_id, JobEvent.id.in_(ids))
    return list(await session.scalars(query))


def events_of_run(run_id: UUID) -> ColumnElement[bool]:
    return JobEvent.run_id == run_id


def events_of_job(job_id: UUID) -> ColumnElement[bool]:
    return JobEvent.job_id == job_id


async def kind_of(session: AsyncSession, job_id: UUID) -> JobKind | None:
    return await session.scalar(select(Job.kind).where(Job.id == job_id))


async def whose_turn(
    session: AsyncSession, job_id: UUID, kinds: Sequence[JobKind], room_bytes: int | None = None
) -> UUID | None:
    """Of the jobs of these kinds that may begin, and fit into a worker with so much memory: one of the tenant that has
    the fewest under way, and of those the one that has waited longest since one of its own began. Of that tenant's
    jobs those of the highest priority; of them `job_id` if it is one, else the oldest.
    """
    other = aliased(Job)
    own = (other.tenant_id == Job.tenant_id, other.kind.in_(kinds))
    running = select(func.count()).where(*own, other.state == JobState.running).correlate(Job)
    last_began = select(func.max(other.started_at)).where(*own).correlate(Job).scalar_subquery()
    query = (
        select(Job.id)
        .where(Job.kind.in_(kinds), _waiting(), _fits(room_bytes))
        .order_by(
            running.scalar_subquery(),
            last_began.is_not(None),
            last_began,
            Job.tenant_id,
            Job.priority.desc(),
            Job.id != job_id,
            Job.available_at,
            Job.id,
        )
        .limit(1)
    )
    return await session.scalar(query)


async def claim(
    session: AsyncSession,
    job_id: UUID,
    owner: str,
    lease_s: float,
    room_bytes: int | None = None,
    slot: str | None = None,
) -> Job | None:
    """None where somebody else was faster, or the job is not to be run (now), or does not fit, or the slot is taken.

    Raises: SlotTaken where it was taken at this very moment; the transaction is then of no use any more.
    """
    values = {
        "state": JobState.running,
        "epoch": Job.epoch + 1,
        "attempt": Job.attempt + 1,
        "owner": owner,
        "slot": slot,
        "started_at": now(),
        "heartbeat_at": None,
        "lease_until": now(lease_s),
        "progress": None,
        "error": case((_is_told(), null()), else_=Job.error),
    }
    ready = (Job.id == job_id, _waiting(), _fits(room_bytes), _free(slot))
    statement = update(Job).where(*ready).values(values).returning(Job)
    try:
        return await session.scalar(statement, execution_options=_FRESH)
    except IntegrityError as error:
        if _is_of_the_slot(error):
            raise SlotTaken from error
        raise


async def hold(session: AsyncSession, ticket: Ticket, values: dict[str, Any]) -> Job | None:
    """The row, locked until the end of the transaction; None where the ticket is void."""
    statement = update(Job).where(*_held(ticket)).values({"heartbeat_at": now()} | values).returning(Job)
    return await session.scalar(statement, execution_options=_FRESH)


async def beat(
    session: AsyncSession, ticket: Ticket, lease_s: float, progress: dict[str, Any] | None
) -> Job | None:
    written = {} if progress is None else {"progress": progress}
    return await hold(session, ticket, written | {"lease_until": now(lease_s)})


async def hold_expired(session: AsyncSession, ticket: Ticket) -> Job | None:
    """None where it was given back, has ended, has shown itself again, or is at this moment writing something."""
    query = select(Job).where(*_held(ticket), _expired()).with_for_update(skip_locked=True)
    return await session.scalar(query, execution_options={"populate_existing": True})


async def lock(session: AsyncSession, scope: TenantScope, job_id: UUID) -> Job | None:
    query = select(Job).where(Job.tenant_id == scope.tenant_id, Job.id == job_id).with_for_update()
    return await session.scalar(query, execution_options={"populate_existing": True})


async def lock_open_of_run(
    session: AsyncSession, scope: TenantScope, run_id: UUID, after_seq: int | None = None
) -> list[Job]:
    """In the order of the run. Everybody locks in this order: two who each had a half would wait for ever."""
    query = select(Job).where(Job.tenant_id == scope.tenant_id, Job.run_id == run_id, Job.state.in_(OPEN))
    if after_seq is not None:
        query = query.where(Job.seq > after_seq)
    query = query.order_by(Job.seq, Job.id).with_for_update()
    return list(await session.scalars(query, execution_options={"populate_existing": True}))


async def lock_ended_of_run(session: AsyncSession, scope: TenantScope, run_id: UUID) -> list[Job]:
    """Those that did not succeed, in the order of the run, as above."""
    ended = (JobState.failed, JobState.cancelled)
    query = select(Job).where(Job.tenant_id == scope.tenant_id, Job.run_id == run_id, Job.state.in_(ended))
    query = query.order_by(Job.seq, Job.id).with_for_update()
    return list(await session.scalars(query, execution_options={"populate_existing": True}))


async def write(session: AsyncSession, job: Job, values: dict[str, Any]) -> Job:
    """To a row that this transaction has locked."""
    statement = update(Job).where(Job.tenant_id == job.tenant_id, Job.id == job.id, Job.epoch == job.epoch)
    rows = await session.scalars(statement.values(values).returning(Job), execution_options=_FRESH)
    return rows.one()


async def count_open(session: AsyncSession, scope: TenantScope, kinds: Sequence[JobKind]) -> int:
    """Things of these kinds that have not ended; the jobs of a run work on one."""
    query = select(func.count(Job.subject_id.distinct())).where(
        Job.tenant_id == scope.tenant_id, Job.kind.in_(kinds), Job.state.in_(OPEN)
    )
    return await session.scalar(query) or 0


async def worked_s(
    session: AsyncSession, scope: TenantScope, kinds: Sequence[JobKind], within_s: float
) -> float:
    """Of jobs that were begun last within that time, those under way included."""
    under_way = case((Job.state == JobState.running, seconds_since(Job.started_at.expression)), else_=0.0)
    query = select(func.coalesce(func.sum(Job.worked_s + under_way), 0.0)).where(
        Job.tenant_id == scope.tenant_id, Job.kind.in_(kinds), Job.started_at > now(-within_s)
    )
    return float(await session.scalar(query) or 0.0)


def worked_now() -> ColumnElement[float]:
    """What `worked_s` is when the claim that runs ends now."""
    return Job.worked_s + func.coalesce(seconds_since(Job.started_at.expression), 0.0)


async def expired(session: AsyncSession, limit: int) -> list[Ticket]:
    query = select(Job.tenant_id, Job.id, Job.epoch).where(Job.state == JobState.running, _expired())
    rows = await session.execute(query.order_by(Job.lease_until).limit(limit))
    return [Ticket(TenantScope(tenant_id), job_id, epoch) for tenant_id, job_id, epoch in rows]


async def due(session: AsyncSession, republish_s: float, limit: int) -> list[Due]:
    """Those never published come first: many that wait for their turn must not keep a new one from its own."""
    unheard = or_(Job.published_at.is_(None), Job.published_at < now(-republish_s))
    query = select(Job.id, Job.kind, Job.published_at.is_not(None)).where(_waiting(), unheard)
    query = query.order_by(Job.published_at.is_not(None), Job.available_at).limit(limit)
    rows = await session.execute(query)
    return [Due(job_id, kind, again) for job_id, kind, again in rows]


async def waiting(session: AsyncSession) -> dict[JobKind, int]:
    query = select(Job.kind, func.count()).where(_waiting()).group_by(Job.kind)
    return {row[0]: row[1] for row in await session.execute(query)}


async def needing(session: AsyncSession, limit: int) -> list[Needing]:
    """Of every tenant: those that could begin and say how much memory they need, the oldest first."""
    told = case((_is_told(), True), else_=False)
    query = select(Job.tenant_id, Job.id, Job.kind, Job.needs_bytes, told)
    query = query.where(_waiting(), Job.needs_bytes.is_not(None)).order_by(Job.available_at).limit(limit)
    rows = await session.execute(query)
    return [
        Needing(TenantScope(tenant_id), job_id, kind, needs_bytes or 0, bool(is_told))
        for tenant_id, job_id, kind, needs_bytes, is_told in rows
    ]


async def workers(session: AsyncSession, alive_s: float) -> list[Process]:
    """Those that were seen within that time."""
    query = select(Process).where(Process.kind == ProcessKind.worker, Process.seen_at > now(-alive_s))
    return list(await session.scalars(query))


async def mark_published(session: AsyncSession, job_ids: Sequence[UUID]) -> None:
    """Now, or seen to be in the queue.

    Leaves out rows that somebody holds: they are changing, and waiting for several could be a deadlock.
    """
    free = select(Job.id).where(Job.id.in_(job_ids), _waiting()).with_for_update(skip_locked=True)
    statement = update(Job).where(Job.id.in_(free)).values(published_at=now())
    await session.execute(statement, execution_options={"synchronize_session": False})


async def forget_words(session: AsyncSession, scope: TenantScope, run_ids: Sequence[UUID]) -> None:
    """Of these runs' jobs: sentences for their readers, which may quote what they work on. What they made stays."""
    which = (JobEvent.tenant_id == scope.tenant_id, JobEvent.run_id.in_(run_ids))
    told = JobEvent.event["event"].as_string().in_(_TELLING)
    await session.execute(delete(JobEvent).where(*which, told), execution_options=_IN_PLACE)
    query = select(Job.id, Job.error).where(Job.tenant_id == scope.tenant_id, Job.run_id.in_(run_ids))
    for job_id, error in await session.execute(query.where(Job.error.is_not(None))):
        shorter = update(Job).where(Job.tenant_id == scope.tenant_id, Job.id == job_id)
        values = {"error": error | {"details": []}, "progress": None}
        await session.execute(shorter.values(values), execution_options=_IN_PLACE)


async def maintenance(session: AsyncSession) -> Maintenance | None:
    return await session.scalar(select(Maintenance), execution_options={"populate_existing": True})


async def begin_maintenance(session: AsyncSession, reason: str) -> None:
    await session.execute(insert(Maintenance).values(id=1, reason=reason, began_at=now()))


async def end_maintenance(session: AsyncSession) -> None:
    await session.execute(delete(Maintenance))


async def count_in(session: AsyncSession, states: Sequence[JobState]) -> int:
    """Jobs in one of these states, of every tenant."""
    query = select(func.count()).select_from(Job).where(Job.state.in_(states))
    return await session.scalar(query) or 0


def _held(ticket: Ticket) -> tuple[ColumnElement[bool], ...]:
    return (
        Job.tenant_id == ticket.scope.tenant_id,
        Job.id == ticket.job_id,
        Job.epoch == ticket.epoch,
        Job.state == JobState.running,
    )


def _expired() -> ColumnElement[bool]:
    return Job.lease_until < now()


def _waiting() -> ColumnElement[bool]:
    return and_(Job.state == JobState.queued, Job.available_at <= now())


def _fits(room_bytes: int | None) -> ColumnElement[bool]:
    """room_bytes: None: nobody knows, and everything is tried."""
    if room_bytes is None:
        return true()
    return or_(Job.needs_bytes.is_(None), Job.needs_bytes <= room_bytes)


def _free(slot: str | None) -> ColumnElement[bool]:
    """Of those who look at one moment an index lets one through."""
    if slot is None:
        return true()
    other = aliased(Job)
    return ~exists().where(other.slot == slot, other.state == JobState.running)


def _is_of_the_slot(error: IntegrityError) -> bool:
    """PostgreSQL names the index, SQLite its column."""
    refusal = str(error.orig)
    return RUNNING_SLOT in refusal or refusal.endswith(f"UNIQUE constraint failed: {Job.slot}")


def _is_told() -> ColumnElement[bool]:
    told: ColumnElement[bool] = Job.error["code"].as_string() == NO_WORKER_FITS
    return told
