"""Decisions about jobs: who works on one, what follows from its end, and what becomes of a worker that fell silent."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import existing
from app.infra.db.clock import now
from app.infra.db.scope import TenantScope
from app.infra.tables.jobs import Job, JobEvent, JobKind, JobState
from app.jobs import repository
from app.jobs.ends import ON_END, Cancelled, End, Lost, Succeeded
from app.jobs.lease import NOTHING, Event, LeaseLost, Note, Ticket
from app.jobs.priority import Priority
from app.jobs.transition import change_of

EVENTS_AT_ONCE = 500


# The arguments are the row's columns; a type around them would only be the row again.
async def enqueue(  # noqa: PLR0913
    session: AsyncSession,
    scope: TenantScope,
    kind: JobKind,
    subject_id: UUID,
    *,
    payload: dict[str, Any] | None = None,
    run_id: UUID | None = None,
    seq: int = 0,
    blocked: bool = False,
    max_attempts: int = 3,
    needs_bytes: int | None = None,
    priority: Priority = Priority.normal,
) -> Job:
    """Part of the caller's transaction; the dispatcher finds the row once that is committed.

    blocked: until the job before it in the run has succeeded. needs_bytes: of memory, where that is known.
    priority: among the tenant's own.
    """
    state = JobState.blocked if blocked else JobState.queued
    row = {
        "kind": kind,
        "subject_id": subject_id,
        "payload": payload or {},
        "run_id": run_id,
        "seq": seq,
        "state": state,
        "max_attempts": max_attempts,
        "needs_bytes": needs_bytes,
        "priority": priority.rank,
    }
    job = await repository.add(session, scope, row)
    await repository.add_events(session, scope, job, [{"event": state.value}])
    return job


async def get(session: AsyncSession, scope: TenantScope, job_id: UUID) -> Job:
    """Raises: NotFound."""
    return existing(await repository.get(session, scope, job_id), "job")


async def of_run(session: AsyncSession, scope: TenantScope, run_id: UUID) -> list[Job]:
    """In the order in which they run."""
    return await repository.of_run(session, scope, run_id)


async def of_runs(session: AsyncSession, scope: TenantScope, run_ids: Sequence[UUID]) -> list[Job]:
    """Of several runs at once; each run's own in their order."""
    return await repository.of_runs(session, scope, run_ids)


async def newest_of(session: AsyncSession, scope: TenantScope, kind: JobKind, subject_id: UUID) -> Job | None:
    return await repository.newest_of(session, scope, kind, subject_id)


async def events_of_run(
    session: AsyncSession, scope: TenantScope, run_id: UUID, after: int = 0, limit: int = EVENTS_AT_ONCE
) -> list[JobEvent]:
    """after: the id of the last event that the reader has."""
    return await repository.events_after(session, scope, repository.events_of_run(run_id), after, limit)


async def events_of_job(
    session: AsyncSession, scope: TenantScope, job_id: UUID, after: int = 0, limit: int = EVENTS_AT_ONCE
) -> list[JobEvent]:
    return await repository.events_after(session, scope, repository.events_of_job(job_id), after, limit)


async def newest_events(
    session: AsyncSession, scope: TenantScope, job_ids: Sequence[UUID], *names: str
) -> dict[UUID, JobEvent]:
    """By job its newest event with one of these names, where it has one."""
    rows = await repository.newest_events(session, scope, job_ids, names)
    return {row.job_id: row for row in rows}


async def count_open(session: AsyncSession, scope: TenantScope, kinds: Sequence[JobKind]) -> int:
    """Things that jobs of these kinds work on, or will, such as runs."""
    return await repository.count_open(session, scope, kinds)


async def priority_of_run(session: AsyncSession, scope: TenantScope, run_id: UUID) -> Priority:
    ranks = [job.priority for job in await repository.of_run(session, scope, run_id)]
    return Priority.of(max(ranks)) if ranks else Priority.normal


async def worked_s(
    session: AsyncSession, scope: TenantScope, kinds: Sequence[JobKind], within_s: float
) -> float:
    """How long workers were, and are, busy with the tenant's jobs that began within that time."""
    return await repository.worked_s(session, scope, kinds, within_s)


# -------------------------------------------------------------------------------------------------- for the workers


async def kind_of(session: AsyncSession, job_id: UUID) -> JobKind | None:
    """Of any tenant's."""
    return await repository.kind_of(session, job_id)


async def claim(
    session: AsyncSession,
    job_id: UUID,
    owner: str,
    lease_s: float,
    same_queue: Sequence[JobKind] = (),
    room_bytes: int | None = None,
    slot: str | None = None,
) -> Job | None:
    """None: nothing to do, because the message was old, or came twice, or somebody was faster. Sees every tenant.

    same_queue: kinds of the jobs that wait in the same queue. There are as many messages as jobs, so one of them says
    only that somebody may begin, and not who: of all that wait there, it is the job of the tenant whose turn it is.
    room_bytes: the memory that this worker has for one; what needs more is left to others. slot: on which it would run;
    None: it needs none.

    Raises: SlotTaken.
    """
    chosen = await repository.whose_turn(session, job_id, same_queue, room_bytes) if same_queue else job_id
    job = (
        None if chosen is None else await repository.claim(session, chosen, owner, lease_s, room_bytes, slot)
    )
    if job is not None:
        started: Event = {"event": "started", "attempt": job.attempt, "epoch": job.epoch}
        await repository.add_events(session, TenantScope(job.tenant_id), job, [started])
    return job


def ticket_of(job: Job) -> Ticket:
    return Ticket(TenantScope(job.tenant_id), job.id, job.epoch)


async def beat(session: AsyncSession, ticket: Ticket, lease_s: float, note: Note = NOTHING) -> Job:
    """The row as it is now, to see whether a cancel was asked for. Raises: LeaseLost."""
    job = _present(await repository.beat(session, ticket, lease_s, note.progress))
    await repository.add_events(session, ticket.scope, job, note.events)
    return job


async def hold(session: AsyncSession, ticket: Ticket) -> Job:
    """From here to the end of the transaction nobody can take the job. Raises: LeaseLost."""
    return _present(await repository.hold(session, ticket, {}))


async def save_checkpoint(session: AsyncSession, ticket: Ticket, uri: str) -> None:
    """Where the next attempt can go on. Raises: LeaseLost.

    Workers that were lost before it are forgotten: a job of days that gets on is not one that takes its workers down.
    """
    _present(await repository.hold(session, ticket, {"checkpoint_uri": uri, "losses": 0}))


async def note_inputs(session: AsyncSession, ticket: Ticket, inputs_hash: str) -> None:
    """What this attempt works on, so that a later one knows whether it is the same. Raises: LeaseLost."""
    _present(await repository.hold(session, ticket, {"inputs_hash": inputs_hash}))


async def finish(session: AsyncSession, ticket: Ticket, end: End, note: Note = NOTHING) -> Job:
    """End this attempt, and with it perhaps the job; the next job of its run is unlocked in the same transaction.

    Raises: LeaseLost, before anything is written.
    """
    written = {} if note.progress is None else {"progress": note.progress}
    job = _present(await repository.hold(session, ticket, written))
    await repository.add_events(session, ticket.scope, job, note.events)
    return await _settle(session, job, end)


def _present(job: Job | None) -> Job:
    if job is None:
        raise LeaseLost
    return job


# ------------------------------------------------------------------------------------------------------ for everyone


async def request_cancel(session: AsyncSession, scope: TenantScope, job_id: UUID) -> Job:
    """A job that has not begun is cancelled now, a running one when its worker sees it. Raises: NotFound."""
    job = existing(await repository.lock(session, scope, job_id), "job")
    return await _request_cancel(session, job) if job.state in repository.OPEN else job


async def request_cancel_of_run(session: AsyncSession, scope: TenantScope, run_id: UUID) -> list[Job]:
    """Every job of the run that has not ended. Call before locking rows of other tables."""
    return await _cancel_all(session, await repository.lock_open_of_run(session, scope, run_id))


async def _cancel_all(session: AsyncSession, jobs: list[Job]) -> list[Job]:
    """The end of one cancels those after it, so some may have ended when their turn comes."""
    for job in jobs:
        if job.state in repository.OPEN:
            await _request_cancel(session, job)
    return jobs


async def _request_cancel(session: AsyncSession, job: Job) -> Job:
    if job.state is not JobState.running:
        return await _settle(session, job, Cancelled())
    if job.cancel_requested_at is None:
        job = await repository.write(session, job, {"cancel_requested_at": now()})
        await repository.add_events(session, TenantScope(job.tenant_id), job, [{"event": "cancel_requested"}])
    return job


async def requeue_of_run(session: AsyncSession, scope: TenantScope, jobs: Sequence[Job]) -> None:
    """What failed, and what was cancelled by that, once more, with all their attempts. What it had kept is there: a
    checkpoint, and the results of the jobs before.

    jobs: locked by this transaction, in the order of their run.
    """
    fresh: dict[str, Any] = {"attempt": 0, "losses": 0, "error": None, "progress": None}
    fresh |= {"finished_at": None, "published_at": None, "cancel_requested_at": None, "available_at": now()}
    for number, job in enumerate(jobs):
        state = JobState.blocked if number else JobState.queued
        again = await repository.write(session, job, {"state": state} | fresh)
        await repository.add_events(session, scope, again, [{"event": state.value, "retried": True}])


async def lock_open_of_run(session: AsyncSession, scope: TenantScope, run_id: UUID) -> list[Job]:
    """Those that have not ended. Call before locking rows of other tables."""
    return await repository.lock_open_of_run(session, scope, run_id)


async def forget_words(session: AsyncSession, scope: TenantScope, run_ids: Sequence[UUID]) -> None:
    """That they may have quoted of what the runs work on."""
    await repository.forget_words(session, scope, run_ids)


async def lock_ended_of_run(session: AsyncSession, scope: TenantScope, run_id: UUID) -> list[Job]:
    """Those that did not succeed. Call before locking rows of other tables."""
    return await repository.lock_ended_of_run(session, scope, run_id)


# ------------------------------------------------------------------------------------------------ for the dispatcher


async def expire(session: AsyncSession, ticket: Ticket) -> Job | None:
    """Take a job away from a worker that fell silent. None: it has ended, or shown itself again, meanwhile."""
    job = await repository.hold_expired(session, ticket)
    return None if job is None else await _settle(session, job, Lost())


async def _settle(session: AsyncSession, job: Job, end: End) -> Job:
    """job: locked by this transaction."""
    if isinstance(end, Succeeded) and job.cancel_requested_at is None and end.outcome.apply is not None:
        await end.outcome.apply(session)
    change = change_of(job, end)
    ended = change.state not in repository.OPEN
    stamps: dict[str, Any] = {"finished_at": now()} if ended else {"published_at": None}
    stamps |= {"worked_s": repository.worked_now()} if job.state is JobState.running else {}
    values = {"state": change.state, "owner": None, "lease_until": None} | stamps | change.values
    job = await repository.write(session, job, values)
    await repository.add_events(session, TenantScope(job.tenant_id), job, [change.event])
    if ended:
        await _follow(session, job)
    return job


async def _follow(session: AsyncSession, job: Job) -> None:
    """What the end of a job means for what it worked on, and for the later jobs of its run."""
    succeeded = job.state is JobState.succeeded
    if not succeeded and (told := ON_END.get(job.kind)) is not None:
        await told(session, job)
    if job.run_id is None:
        return
    scope = TenantScope(job.tenant_id)
    later = await repository.lock_open_of_run(session, scope, job.run_id, after_seq=job.seq)
    if not succeeded:
        await _cancel_all(session, later)
    elif later and later[0].state is JobState.blocked:
        freed = await repository.write(session, later[0], {"state": JobState.queued, "available_at": now()})
        await repository.add_events(session, scope, freed, [{"event": JobState.queued.value}])
