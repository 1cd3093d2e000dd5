"""How jobs end: once, with what they have made, and with what follows for the others of their run."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.clock import now
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.tables.jobs import Job, JobKind, JobState
from app.jobs import repository, service
from app.jobs.ends import ON_END, Cancelled, End, Failed, JobOutcome, Postponed, Released, Succeeded
from app.jobs.lease import LeaseLost
from tests.app.jobs.factory import (
    BROKEN,
    DONE,
    STAGES,
    Made,
    claim,
    enqueue,
    enqueue_run,
    events,
    expire_all,
    finish,
    let_expire,
    read,
    states,
)

pytestmark = pytest.mark.anyio


async def test_an_error_is_tried_again_until_the_attempts_are_used_up(database: Database, made: Made) -> None:
    job = await enqueue(database, made, max_attempts=2)
    first = await finish(database, service.ticket_of(await claim(database, job)), BROKEN)
    assert (first.state, first.attempt, first.losses) == (JobState.queued, 1, 0)
    assert first.error == {"code": "stage_failed", "message": "loss is NaN", "details": ["at step 12"]}
    async with transaction(database) as session:
        await repository.write(session, first, {"available_at": now()})
    last = await finish(database, service.ticket_of(await claim(database, job)), BROKEN)
    assert (last.state, last.attempt) == (JobState.failed, 2)
    assert await events(database, job) == ["queued", "started", "retried", "started", "failed"]


async def test_an_error_that_trying_again_cannot_mend_ends_the_job(database: Database, made: Made) -> None:
    job = await enqueue(database, made)
    ended = await finish(database, service.ticket_of(await claim(database, job)), BROKEN._replace(final=True))
    assert ended.state is JobState.failed


async def test_waiting_for_what_is_away_uses_up_no_attempt_and_says_what_it_waits_for(
    database: Database, made: Made
) -> None:
    job = await enqueue(database, made, max_attempts=1)
    for _ in range(3):
        row = await postponed(database, job)
        assert (row.state, row.attempt, row.losses) == (JobState.queued, 0, 0)
        assert row.error is not None and row.error["message"] == "loss is NaN"
        async with transaction(database) as session:
            await repository.write(session, row, {"available_at": now(10)})
            assert await service.claim(session, job.id, "a worker", 60) is None  # not before its time
            await repository.write(session, row, {"available_at": now()})
    done = await finish(database, service.ticket_of(await claim(database, job)), DONE)
    assert (done.state, done.error) == (JobState.succeeded, None)


async def postponed(database: Database, job: Job, began_s: float = 0) -> Job:
    """began_s: how long it had worked by then."""
    claimed = await claim(database, job)
    async with transaction(database) as session:
        await repository.write(session, claimed, {"started_at": now(-began_s)})
    return await finish(database, service.ticket_of(claimed), Postponed(BROKEN.error, 10))


async def test_what_is_away_is_looked_for_soon_and_then_less_and_less_often(
    database: Database, made: Made
) -> None:
    job = await enqueue(database, made)
    waits = []
    for began_s in (0, 0, 0, 0, 0, 0, 60, 0):
        row = await postponed(database, job, began_s)
        async with transaction(database, made.scope) as session:
            waits.append((await service.events_of_job(session, made.scope, job.id))[-1].event["wait_s"])
            await repository.write(session, row, {"available_at": now()})
    assert waits == [1, 2, 4, 8, 10, 10, 1, 2]  # after a minute of work it had been back


async def test_the_next_stage_is_unlocked_with_the_success_of_the_one_before(
    database: Database, made: Made
) -> None:
    jobs = await enqueue_run(database, made)
    assert await states(database, jobs) == [JobState.queued, JobState.blocked, JobState.blocked]
    async with transaction(database) as session:
        assert await service.claim(session, jobs[1].id, "too early", 60) is None
    ticket = service.ticket_of(await claim(database, jobs[0]))

    async def finish_and_fail() -> None:
        async with transaction(database, made.scope) as session:
            await service.finish(session, ticket, DONE)
            raise RuntimeError("before the commit")

    with pytest.raises(RuntimeError, match="before the commit"):
        await finish_and_fail()
    assert await states(database, jobs) == [JobState.running, JobState.blocked, JobState.blocked]
    await finish(database, ticket, DONE)
    assert await states(database, jobs) == [JobState.succeeded, JobState.queued, JobState.blocked]
    async with transaction(database) as session:
        assert [one.job_id for one in await repository.due(session, 30, 10)] == [jobs[1].id]


async def test_what_a_job_has_made_is_written_with_its_success_or_not_at_all(
    database: Database, made: Made
) -> None:
    job = await claim(database, await enqueue(database, made))
    ticket = service.ticket_of(job)

    async def write_and_fail(session: AsyncSession) -> None:
        await service.enqueue(session, made.scope, JobKind.gate, job.subject_id)
        raise RuntimeError("half way")

    async def write(session: AsyncSession) -> None:
        await service.enqueue(session, made.scope, JobKind.gate, job.subject_id)

    with pytest.raises(RuntimeError, match="half way"):
        await finish(database, ticket, Succeeded(JobOutcome(apply=write_and_fail)))
    assert (await read(database, job)).state is JobState.running
    await finish(database, ticket, Succeeded(JobOutcome(apply=write)))
    with pytest.raises(LeaseLost):
        await finish(database, ticket, Succeeded(JobOutcome(apply=write)))
    async with transaction(database) as session:
        assert await repository.waiting(session) == {JobKind.gate: 1}
        newest = await service.newest_of(session, made.scope, JobKind.gate, job.subject_id)
    assert newest is not None


@pytest.mark.parametrize(("end", "state"), [(BROKEN, JobState.failed), (Cancelled(), JobState.cancelled)])
async def test_an_unhappy_end_cancels_what_would_have_come_after_it(
    database: Database, made: Made, end: End, state: JobState
) -> None:
    jobs = await enqueue_run(database, made)
    end = end._replace(final=True) if isinstance(end, Failed) else end
    await finish(database, service.ticket_of(await claim(database, jobs[0])), end)
    assert await states(database, jobs) == [state, JobState.cancelled, JobState.cancelled]
    assert await events(database, jobs[2]) == ["blocked", "cancelled"]


async def test_every_unhappy_end_is_told_once_and_the_cause_first(database: Database, made: Made) -> None:
    told: list[tuple[JobKind, JobState]] = []

    async def note(_session: AsyncSession, job: Job) -> None:
        told.append((job.kind, job.state))

    jobs = await enqueue_run(database, made)
    ticket = service.ticket_of(await claim(database, jobs[0]))
    ON_END.update(dict.fromkeys(STAGES, note))
    await finish(database, ticket, BROKEN._replace(final=True))
    assert told == [
        (JobKind.traces, JobState.failed),
        (JobKind.sft, JobState.cancelled),
        (JobKind.rl, JobState.cancelled),
    ]


async def test_a_job_that_has_not_begun_is_cancelled_at_once_and_never_runs(
    database: Database, made: Made
) -> None:
    job = await enqueue(database, made)
    async with transaction(database, made.scope) as session:
        assert (await service.request_cancel(session, made.scope, job.id)).state is JobState.cancelled
    async with transaction(database) as session:
        assert await service.claim(session, job.id, "a worker", 60) is None
    async with transaction(database, made.scope) as session:  # again: nothing more happens
        await service.request_cancel(session, made.scope, job.id)
    assert await events(database, job) == ["queued", "cancelled"]


async def test_a_running_job_hears_of_the_cancel_at_its_next_heartbeat(
    database: Database, made: Made
) -> None:
    job = await claim(database, await enqueue(database, made))
    async with transaction(database, made.scope) as session:
        asked = await service.request_cancel(session, made.scope, job.id)
    assert (asked.state, asked.cancel_requested_at is None) == (JobState.running, False)
    ticket = service.ticket_of(job)
    async with transaction(database, made.scope) as session:
        assert (await service.beat(session, ticket, 60)).cancel_requested_at is not None
    assert (await finish(database, ticket, Cancelled())).state is JobState.cancelled


async def test_a_cancel_comes_before_whatever_happens_after_it(database: Database, made: Made) -> None:
    applied = []

    async def apply(_session: AsyncSession) -> None:
        applied.append("written")

    for end in (Succeeded(JobOutcome(apply=apply)), BROKEN, Released()):
        job = await claim(database, await enqueue(database, made))
        async with transaction(database, made.scope) as session:
            await service.request_cancel(session, made.scope, job.id)
        assert (await finish(database, service.ticket_of(job), end)).state is JobState.cancelled
    lost = await claim(database, await enqueue(database, made))
    async with transaction(database, made.scope) as session:
        lost = await service.request_cancel(session, made.scope, lost.id)
    await let_expire(database, lost)
    await expire_all(database)
    assert (await read(database, lost)).state is JobState.cancelled
    assert applied == []


async def test_cancelling_a_run_cancels_each_of_its_jobs_once(database: Database, made: Made) -> None:
    jobs = await enqueue_run(database, made)
    ticket = service.ticket_of(await claim(database, jobs[0]))
    await finish(database, ticket, DONE)
    running = await claim(database, jobs[1])
    async with transaction(database, made.scope) as session:
        await service.request_cancel_of_run(session, made.scope, made.run_id)
    assert await states(database, jobs) == [JobState.succeeded, JobState.running, JobState.cancelled]
    await finish(database, service.ticket_of(running), Cancelled())
    assert await states(database, jobs) == [JobState.succeeded, JobState.cancelled, JobState.cancelled]
    assert await events(database, jobs[2]) == ["blocked", "cancelled"]


async def test_a_cancel_of_the_run_and_the_end_of_a_stage_never_wait_for_each_other(
    database: Database, made: Made
) -> None:
    async def cancel_run() -> None:
        async with transaction(database, made.scope) as session:
            await service.request_cancel_of_run(session, made.scope, made.run_id)

    for _ in range(5):
        jobs = await enqueue_run(database, made)
        ticket = service.ticket_of(await claim(database, jobs[0]))
        async with asyncio.timeout(30):
            await asyncio.gather(finish(database, ticket, DONE), cancel_run())
        first, *later = await states(database, jobs)
        assert first in (JobState.succeeded, JobState.cancelled)
        assert later == [JobState.cancelled, JobState.cancelled]
