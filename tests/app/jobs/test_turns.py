"""A message says that somebody may begin; who, is whose turn it is among tenants."""

import asyncio

import pytest

from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.jobs import Job, JobKind, JobState
from app.jobs import service
from app.jobs.handlers import Queue, kinds_in
from tests.app.jobs.factory import DONE, Made, enqueue, finish, make_run, read

pytestmark = pytest.mark.anyio
GPU = kinds_in(Queue.gpu)


async def told(database: Database, job: Job) -> Job | None:
    """A worker of the GPU queue hears of this job."""
    async with transaction(database) as session:
        return await service.claim(session, job.id, "a worker", 60, GPU)


async def test_forty_runs_of_one_tenant_do_not_make_the_next_tenant_wait_for_all(
    database: Database, scope: TenantScope, other_scope: TenantScope
) -> None:
    noisy, quiet = await make_run(database, scope), await make_run(database, other_scope)
    many = [await enqueue(database, noisy, JobKind.sft) for _ in range(6)]
    first = await told(database, many[0])
    assert first is not None and first.id == many[0].id
    late = await enqueue(database, quiet, JobKind.sft)
    second = await told(database, many[1])
    assert second is not None and second.id == late.id  # it has none under way
    again = await enqueue(database, quiet, JobKind.gate)
    await finish(database, service.ticket_of(second), DONE)
    third = await told(database, late)
    assert third is not None and third.id == again.id
    await finish(database, service.ticket_of(first), DONE)
    await finish(database, service.ticket_of(third), DONE)
    await asyncio.sleep(0.01)
    fourth = await told(database, again)
    assert (
        fourth is not None and fourth.id == many[1].id
    )  # a message of a job that was done is a turn all the same
    await finish(database, service.ticket_of(fourth), DONE)
    for _ in many[2:]:
        served = await told(database, many[1])
        assert served is not None
        await finish(database, service.ticket_of(served), DONE)
    assert {(await read(database, job)).state for job in [*many, late, again]} == {JobState.succeeded}
    assert await told(database, many[0]) is None


async def test_a_job_of_another_queue_is_nobodys_turn(database: Database, scope: TenantScope) -> None:
    made = await make_run(database, scope)
    deploy = await enqueue(database, made, JobKind.deploy)
    train = await enqueue(database, made, JobKind.sft)
    claimed = await told(database, train)
    assert claimed is not None and claimed.id == train.id
    assert (await read(database, deploy)).state is JobState.queued


async def test_how_long_a_worker_was_busy_is_counted_for_the_tenant(
    database: Database, scope: TenantScope, other_scope: TenantScope
) -> None:
    made: Made = await make_run(database, scope)
    job = await enqueue(database, made, JobKind.sft)
    claimed = await told(database, job)
    assert claimed is not None
    await asyncio.sleep(0.3)

    async def worked(whose: TenantScope) -> float:
        async with transaction(database, whose, read_only=True) as session:
            return await service.worked_s(session, whose, GPU, 3600)

    assert 0.3 <= (under_way := await worked(scope)) < 60
    await finish(database, service.ticket_of(claimed), DONE)
    assert under_way <= (done := await worked(scope)) < 60
    await asyncio.sleep(0.1)
    assert await worked(scope) == done == (await read(database, job)).worked_s
    assert await worked(other_scope) == 0
