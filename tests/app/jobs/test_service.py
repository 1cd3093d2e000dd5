"""The life of a row: claimed by one, kept by its heartbeats, taken away from a worker that fell silent."""

import asyncio
from collections import Counter
from itertools import chain
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import NotFound
from app.infra.db.clock import now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.jobs import Job, JobKind, JobState
from app.jobs import repository, service
from app.jobs.ends import Released
from app.jobs.lease import LeaseLost, Note, storable
from app.jobs.transition import MAX_LOSSES
from tests.app.jobs import factory
from tests.app.jobs.factory import (
    DONE,
    Made,
    claim,
    enqueue,
    enqueue_run,
    events,
    expire_all,
    finish,
    let_expire,
    read,
)

pytestmark = pytest.mark.anyio


async def test_of_many_claimers_at_once_one_gets_the_job(database: Database, made: Made) -> None:
    jobs = [await enqueue(database, made) for _ in range(5)]

    async def try_all(owner: str) -> list[str]:
        got = []
        for job in jobs:
            async with transaction(database) as session:
                if await service.claim(session, job.id, owner, 60) is not None:
                    got.append(str(job.id))
            await asyncio.sleep(0)
        return got

    claims = await asyncio.gather(*(try_all(f"worker {i}") for i in range(6)))
    assert Counter(chain.from_iterable(claims)) == {str(job.id): 1 for job in jobs}
    rows = [await read(database, job) for job in jobs]
    assert {(row.state, row.epoch, row.attempt) for row in rows} == {(JobState.running, 1, 1)}


async def test_a_job_is_not_there_before_its_transaction_is_committed(database: Database, made: Made) -> None:
    added = []

    async def enqueue_and_fail() -> None:
        async with transaction(database, made.scope) as session:
            added.append((await service.enqueue(session, made.scope, JobKind.deploy, uuid4())).id)
            raise RuntimeError("rolled back")

    with pytest.raises(RuntimeError, match="rolled back"):
        await enqueue_and_fail()
    async with transaction(database) as session:
        assert await service.claim(session, added[0], "a worker", 60) is None
        assert await repository.due(session, 30, 10) == []


async def test_a_zombie_changes_no_row_and_learns_it(database: Database, made: Made) -> None:
    job = await enqueue(database, made)
    old = service.ticket_of(await claim(database, job))
    await let_expire(database, await read(database, job))
    assert [ended.state for ended in await expire_all(database) if ended] == [JobState.queued]
    async with transaction(database) as session:
        await repository.write(
            session, await service.get(session, made.scope, job.id), {"available_at": now()}
        )
    new = service.ticket_of(await claim(database, job))
    before = await read(database, job)

    async def beat(session: AsyncSession) -> object:
        return await service.beat(session, old, 60, Note({"done": 9}, ({"event": "metric"},)))

    async def end(session: AsyncSession) -> object:
        return await service.finish(session, old, DONE, Note({"done": 9}, ({"event": "metric"},)))

    async def save(session: AsyncSession) -> object:
        return await service.save_checkpoint(session, old, "checkpoints/old")

    for write in (beat, end, save):
        with pytest.raises(LeaseLost):
            async with transaction(database, made.scope) as session:
                await write(session)
    after = await read(database, job)
    columns = [column.name for column in Job.__table__.columns]
    assert [getattr(after, name) for name in columns] == [getattr(before, name) for name in columns]
    assert "metric" not in await events(database, job)
    assert (await finish(database, new, DONE)).state is JobState.succeeded
    with pytest.raises(LeaseLost):
        await finish(database, new, DONE)


async def test_a_heartbeat_prolongs_the_lease_and_brings_progress_and_events(
    database: Database, made: Made
) -> None:
    job = await claim(database, await enqueue(database, made), lease_s=1)
    note = Note({"done": 1, "total": 4, "message": "reading"}, ({"event": "metric", "loss": 0.5},))
    async with transaction(database, made.scope) as session:
        beaten = await service.beat(session, service.ticket_of(job), 60, note)
    assert job.lease_until is not None and beaten.lease_until is not None and beaten.heartbeat_at is not None
    assert (beaten.lease_until - beaten.heartbeat_at).total_seconds() == pytest.approx(60, abs=0.1)
    row = await read(database, job)
    assert row.progress == {"done": 1, "total": 4, "message": "reading"}
    assert await events(database, job) == ["queued", "started", "metric"]


async def test_a_lost_worker_costs_no_attempt_and_the_job_waits_before_it_is_tried_again(
    database: Database, made: Made
) -> None:
    job = await claim(database, await enqueue(database, made))
    assert await expire_all(database) == []
    await let_expire(database, job)
    await expire_all(database)
    row = await read(database, job)
    assert (row.state, row.attempt, row.losses, row.owner) == (JobState.queued, 0, 1, None)
    async with transaction(database) as session:
        assert await service.claim(session, job.id, "another", 60) is None  # not yet
    assert row.lease_until is None
    assert (row.available_at - row.created_at).total_seconds() > 0.9
    assert await events(database, job) == ["queued", "started", "lost"]


async def test_a_lease_that_was_prolonged_meanwhile_is_not_taken_away(database: Database, made: Made) -> None:
    job = await claim(database, await enqueue(database, made))
    ticket = service.ticket_of(job)
    await let_expire(database, job)
    async with transaction(database, made.scope) as session:
        await service.beat(session, ticket, 60)
    async with transaction(database, made.scope) as session:
        assert await service.expire(session, ticket) is None
    assert (await read(database, job)).state is JobState.running


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_worker_in_the_middle_of_writing_is_not_taken_for_silent(
    database: Database, made: Made
) -> None:
    """Nor does the dispatcher wait for it. (On SQLite there is one writer at a time, and it does.)"""
    job = await claim(database, await enqueue(database, made))
    ticket = service.ticket_of(job)
    await let_expire(database, job)
    async with asyncio.timeout(30), transaction(database, made.scope) as writing:
        await service.hold(writing, ticket)
        async with transaction(database, made.scope) as session:
            assert await service.expire(session, ticket) is None


async def test_a_job_that_takes_every_worker_down_ends_as_failed(database: Database, made: Made) -> None:
    job = await enqueue(database, made)
    for losses in range(1, MAX_LOSSES + 1):
        async with transaction(database) as session:
            row = await service.get(session, made.scope, job.id)
            await repository.write(session, row, {"available_at": now()})
        claimed = await claim(database, job)
        assert claimed.attempt == 1
        await let_expire(database, claimed)
        await expire_all(database)
        assert (await read(database, job)).losses == losses
    row = await read(database, job)
    assert row.state is JobState.failed
    assert row.error is not None and row.error["code"] == "worker_lost"
    assert row.finished_at is not None


async def test_workers_that_were_lost_before_a_checkpoint_are_forgotten(
    database: Database, made: Made
) -> None:
    job = await enqueue(database, made)
    for round_ in range(MAX_LOSSES + 2):  # a stage of days loses more than eight, one now and then
        async with transaction(database) as session:
            row = await service.get(session, made.scope, job.id)
            await repository.write(session, row, {"available_at": now()})
        claimed = await claim(database, job)
        async with transaction(database, made.scope) as session:
            await service.save_checkpoint(session, service.ticket_of(claimed), f"step-{round_}")
        await let_expire(database, await read(database, job))
        await expire_all(database)
        lost = await read(database, job)
        assert (lost.state, lost.losses) == (JobState.queued, 1)


async def test_a_job_that_is_handed_back_can_be_taken_at_once(database: Database, made: Made) -> None:
    job = await claim(database, await enqueue(database, made))
    back = await finish(database, service.ticket_of(job), Released())
    assert (back.state, back.attempt, back.losses) == (JobState.queued, 0, 0)
    assert (await claim(database, job)).epoch == 2


async def test_another_tenants_job_is_not_there(
    database: Database, made: Made, other_scope: TenantScope
) -> None:
    job = await enqueue(database, await factory.make_run(database, other_scope))
    for scope in (made.scope, TenantScope(uuid4())):
        with pytest.raises(NotFound):
            async with transaction(database, scope) as session:
                await service.request_cancel(session, scope, job.id)
    assert (await read(database, job)).state is JobState.queued


async def test_a_listener_goes_on_after_the_last_event_that_it_saw(database: Database, made: Made) -> None:
    jobs = await enqueue_run(database, made)
    async with transaction(database, made.scope, read_only=True) as session:
        seen = await service.events_of_run(session, made.scope, made.run_id)
    await finish(database, service.ticket_of(await claim(database, jobs[0])), DONE)
    async with transaction(database, made.scope, read_only=True) as session:
        more = await service.events_of_run(session, made.scope, made.run_id, after=seen[-1].id)
        two = await service.events_of_run(session, made.scope, made.run_id, after=seen[-1].id, limit=2)
    assert [row.event["event"] for row in seen] == ["queued", "blocked", "blocked"]
    assert [row.event["event"] for row in more] == ["started", "succeeded", "queued"]
    assert more[1].event["result"] == {"rows": 3}
    assert [row.id for row in two] == [row.id for row in more[:2]]


async def test_a_metric_that_is_no_number_and_half_a_character_do_not_cost_the_heartbeat(
    database: Database, made: Made
) -> None:
    job = await claim(database, await enqueue(database, made))
    bad = {"loss": float("nan"), "best": float("-inf"), "text": "a\0b\ud800", "steps": [1, 2.5, None, True]}
    async with transaction(database, made.scope) as session:
        await service.beat(session, service.ticket_of(job), 60, Note(storable(bad)))
    assert (await read(database, job)).progress == {
        "loss": "nan",
        "best": "-inf",
        "text": "a\ufffdb?",
        "steps": [1, 2.5, None, True],
    }
