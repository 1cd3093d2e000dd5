"""One job in a worker's process: claimed, worked on while its heart beats, and ended in one transaction."""

import asyncio
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import structlog
from structlog.contextvars import bound_contextvars

from app.errors import AppError, ServingLost
from app.infra import outage
from app.infra.db.engine import Database, open_database
from app.infra.db.session import transaction
from app.infra.db.version import DatabaseMisfit, check_version
from app.infra.files.door import FileDoor
from app.infra.storage import open_storage
from app.infra.tables.jobs import Job
from app.jobs import maintenance, service
from app.jobs.context import JobContext, log_file
from app.jobs.ends import Cancelled, End, Failed, JobError, JobOutcome, Lost, Postponed, Released, Succeeded
from app.jobs.handlers import HANDLERS, QUEUE_OF, Queue, kinds_in
from app.jobs.heartbeat import Heartbeat, Stop, beating
from app.jobs.lease import LeaseLost, SlotTaken, Ticket
from app.settings import Settings
from training.protocol import Fault

log = structlog.get_logger()
INTERNAL = JobError("internal", "something went wrong on our side; the log of the worker says what")
_RETRY_S = 1.0
_AWAY_S = 15.0  # at most, before what waits for something looks again
_FULL_S = 60.0  # ... and for room: nobody makes some at once


class WorkerRoom(NamedTuple):
    """What a worker has for a job. memory_bytes: for what says how much it needs; None: nobody knows. slot: of its GPU,
    which it may share with others, and on which one job runs at a time; None: it shares with nobody."""

    memory_bytes: int | None = None
    slot: str | None = None


ANY_ROOM = WorkerRoom()


class NoHandler(AppError):
    """This worker does not know how to do jobs of this kind."""

    code = "no_handler"


def run_job(
    job_id: UUID,
    settings: Settings,
    shutting_down: Callable[[], bool] = lambda: False,
    room: WorkerRoom = ANY_ROOM,
) -> None:
    """This job, or another of its queue whose turn it is first. Does nothing where none of them is to be run now.

    shutting_down: asked about once a second; once true, the job is handed back.
    """
    if not shutting_down():
        asyncio.run(_run(job_id, settings, shutting_down, room))


async def _run(job_id: UUID, settings: Settings, shutting_down: Callable[[], bool], room: WorkerRoom) -> None:
    database = open_database(settings.database_url, settings.platform_database_url)
    try:
        sent_at, job = await _claim(database, job_id, settings, shutting_down, room)
        if job is None:
            log.info("job_not_claimed", job_id=str(job_id))
            return
        with bound_contextvars(**_ids(job)):
            log.info("job_started", attempt=job.attempt)
            await _work(database, job, Heartbeat(service.ticket_of(job), settings, shutting_down, sent_at))
    finally:
        await database.close()


class _Claim(NamedTuple):
    """sent_at: on time.monotonic()'s clock. job: None where none is to be run now."""

    sent_at: float
    job: Job | None


async def _claim(
    database: Database, job_id: UUID, settings: Settings, shutting_down: Callable[[], bool], room: WorkerRoom
) -> _Claim:
    """Waits while the database is away, as there is nothing that this worker could do instead, until workers are told
    of the job again anyway."""
    give_up_at = time.monotonic() + settings.job_republish_s
    waiting = False
    while True:
        sent_at = time.monotonic()
        try:
            await check_version(database)  # it may have been migrated since this worker started
            return _Claim(sent_at, await _claimed(database, job_id, settings, room))
        except DatabaseMisfit as error:
            log.error("job_left_to_another_worker", job_id=str(job_id), reason=str(error))
            return _Claim(sent_at, None)
        except Exception as error:
            if not outage.passes(error):
                raise
            if shutting_down() or time.monotonic() > give_up_at:
                return _Claim(sent_at, None)
            if not waiting:
                log.warning("job_waits_for_the_database", job_id=str(job_id), error=outage.reason(error))
            waiting = True
        await asyncio.sleep(_RETRY_S)


async def _claimed(database: Database, job_id: UUID, settings: Settings, room: WorkerRoom) -> Job | None:
    try:
        async with transaction(database) as session:
            if await maintenance.is_on(session):
                log.info("job_left_for_after_the_maintenance", job_id=str(job_id))
                return None
            kind = await service.kind_of(session, job_id)
            queue = None if kind is None else QUEUE_OF[kind]
            same_queue = () if queue is None else kinds_in(queue)
            slot = room.slot if queue is Queue.gpu else None
            return await service.claim(
                session, job_id, _owner(), settings.job_lease_s, same_queue, room.memory_bytes, slot
            )
    except SlotTaken:
        return None


def _owner() -> str:
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


def _ids(job: Job) -> dict[str, object]:
    run_id = None if job.run_id is None else str(job.run_id)
    return {
        "job_id": str(job.id),
        "kind": job.kind.value,
        "tenant_id": str(job.tenant_id),
        "run_id": run_id,
        "epoch": job.epoch,
    }


async def _work(database: Database, job: Job, heartbeat: Heartbeat) -> None:
    with beating(heartbeat), ExitStack() as stack:
        end: End | None
        try:
            place = stack.enter_context(_place(heartbeat.settings, heartbeat.ticket))
            storage = await asyncio.to_thread(open_storage, heartbeat.settings.storage_url)
        except (AppError, OSError) as error:
            end = _failure(error)
        else:
            files = FileDoor(storage, database, heartbeat.ticket.scope)
            context = JobContext(
                database, storage, files, heartbeat.settings, job, heartbeat.ticket, *place, heartbeat
            )
            end = await _end_of(context)
            await _keep_log(context)
        await _report(database, heartbeat, end)


class AttemptFolder(NamedTuple):
    workdir: Path
    log: Path


@contextmanager
def _place(settings: Settings, ticket: Ticket) -> Iterator[AttemptFolder]:
    """A folder for each claim, so that a worker that has lost the job writes into nobody's way."""
    attempts = settings.home / "jobs" / str(ticket.job_id)
    shutil.rmtree(attempts, ignore_errors=True)  # left by a worker that was killed
    place = AttemptFolder(attempts / str(ticket.epoch) / "work", attempts / str(ticket.epoch) / "job.log")
    attempts.mkdir(mode=0o700, parents=True)
    place.workdir.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place.workdir.parent, ignore_errors=True)
        with suppress(OSError):  # another attempt is there by now
            attempts.rmdir()


async def _end_of(context: JobContext) -> End | None:
    """None: the job is no longer ours. The handler has ended, and what it supervised with it."""
    handling = asyncio.create_task(_handle(context))
    loop = asyncio.get_running_loop()
    context.heartbeat.told = lambda: loop.call_soon_threadsafe(handling.cancel)
    if context.heartbeat.stop is not None:  # before we were there to be told
        handling.cancel()
    try:
        await asyncio.wait([handling])
    except asyncio.CancelledError:  # SIGTERM to this very process: Celery makes it an exception
        context.heartbeat.shut_down()
        await asyncio.wait([handling])
    if handling.cancelled() or (handling.exception() is not None and context.heartbeat.stop is not None):
        return _end_of_stopped(context.heartbeat.stop)
    error = handling.exception()
    if isinstance(error, LeaseLost):  # the handler has learnt it before the heartbeat
        return None
    return Succeeded(handling.result()) if error is None else _failure(error)


async def _handle(context: JobContext) -> JobOutcome:
    handler = HANDLERS.get(context.job.kind)
    if handler is None:
        raise NoHandler(f"this worker does not know how to do {context.job.kind.value}")
    return await handler(context)


def _end_of_stopped(stop: Stop | None) -> End | None:
    match stop:
        case Stop.lost:
            return None
        case Stop.cancel:
            return Cancelled()
        case Stop.shutdown:
            return Released()
        case None:
            log.error("job_failed", error="the handler was cancelled, and not by us")
            return Failed(INTERNAL)


def _failure(error: BaseException) -> Failed | Lost | Postponed:
    """What the input is to blame for stays so however often it is tried; waiting for what is away, or for room on a
    disk, is nobody's attempt.
    """
    if isinstance(error, ServingLost):
        log.warning("job_interrupted", error=str(error))
        return Lost(JobError(error.code, str(error)))
    waits = outage.told(error)
    if waits is not None:
        log.warning("job_postponed", code=waits.code, error=f"{type(error).__name__}: {outage.reason(error)}")
        most_s = _FULL_S if waits.fault is Fault.full else _AWAY_S
        return Postponed(JobError(waits.code, str(waits), waits.details), most_s)
    if not isinstance(error, AppError):
        log.error("job_failed", exc_info=error)
        return Failed(INTERNAL)
    # Its details are in the job's row, and may quote what the job worked on.
    log.warning("job_failed", code=error.code, error=str(error))
    problems = [f"{problem.where}: {problem.message}" for problem in error.problems]
    told = JobError(error.code, str(error), (*error.details, *problems))
    return Failed(told, final=error.fault is Fault.theirs)


async def _keep_log(context: JobContext) -> None:
    if not context.log.is_file():
        return
    try:
        await context.files.put(context.log, log_file(context.job, context.ticket))
    except Exception as error:  # noqa: BLE001 (S3 has errors of its own, and no log decides about its job)
        log.warning("job_log_not_kept", error=repr(error))


async def _report(database: Database, heartbeat: Heartbeat, end: End | None) -> None:
    """Tries on while the database is away: hours of work are not thrown away for a restart of it."""
    note = heartbeat.take()
    give_up_at = time.monotonic() + heartbeat.settings.job_lease_s
    while end is not None and heartbeat.stop is not Stop.lost:
        try:
            async with transaction(database, heartbeat.ticket.scope) as session:
                job = await service.finish(session, heartbeat.ticket, end, note)
            log.info("job_ended", state=job.state.value)
            return
        except LeaseLost:
            break
        except Exception as error:
            if outage.passes(error) and time.monotonic() < give_up_at:
                log.warning("job_end_not_written", error=repr(error))
                await asyncio.sleep(_RETRY_S)
            elif isinstance(end, Succeeded):  # what the handler had made could not be written
                end = _failure(error)
            else:
                raise
    log.warning("job_lost")
