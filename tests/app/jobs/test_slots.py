"""What shares a GPU shares a slot, on which one job runs at a time; and which of a tenant's jobs begins first."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs

from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.machine import Gpu, Machine
from app.infra.tables.jobs import Job, JobKind, JobState
from app.jobs import runner, service
from app.jobs.handlers import Queue, kinds_in
from app.jobs.priority import Priority
from app.jobs.runner import WorkerRoom, _claimed
from app.worker import _room, _warn_without_slot
from tests.app.jobs import factory
from tests.app.jobs.factory import DONE, Made, enqueue, events, finish, let_expire, make_run, settings_for

pytestmark = pytest.mark.anyio
GPU = kinds_in(Queue.gpu)
GIB = 1 << 30


async def claimed(database: Database, job: Job, slot: str | None) -> Job | None:
    async with transaction(database) as session:
        return await service.claim(session, job.id, "a worker", 60, (), None, slot)


async def test_a_slot_has_one_job_at_a_time(database: Database, made: Made) -> None:
    stage, gate = await enqueue(database, made, JobKind.sft), await enqueue(database, made, JobKind.gate)
    training = await claimed(database, stage, "GPU-1")
    assert training is not None and training.slot == "GPU-1"
    assert await claimed(database, gate, "GPU-1") is None
    assert await events(database, gate) == ["queued"]
    await finish(database, service.ticket_of(training), DONE)
    assert await claimed(database, gate, "GPU-1") is not None


async def test_another_gpu_and_a_worker_without_a_slot_wait_for_nobody(
    database: Database, made: Made
) -> None:
    jobs = [await enqueue(database, made, JobKind.sft) for _ in range(4)]
    for job, slot in zip(jobs, ("GPU-1", "GPU-2", None, None), strict=True):
        assert await claimed(database, job, slot) is not None


async def test_the_slot_of_a_worker_that_was_lost_is_free_again(database: Database, made: Made) -> None:
    first, second = [await enqueue(database, made, JobKind.sft) for _ in range(2)]
    lost = await claimed(database, first, "GPU-1")
    assert lost is not None
    await let_expire(database, lost)
    await factory.expire_all(database)
    assert await claimed(database, second, "GPU-1") is not None


async def test_workers_that_ask_at_one_moment_do_not_both_get_the_slot(
    database: Database, made: Made, tmp_path: Path
) -> None:
    jobs = [await enqueue(database, made, JobKind.sft) for _ in range(4)]
    settings, room = settings_for("sqlite://", tmp_path), WorkerRoom(slot="GPU-1")
    found = await asyncio.gather(*(_claimed(database, job.id, settings, room) for job in jobs))
    assert sum(one is not None for one in found) == 1
    states = await factory.states(database, jobs)
    assert sorted(states) == [JobState.queued] * 3 + [JobState.running]


async def test_another_refusal_of_the_database_is_no_taken_slot(
    database: Database, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await enqueue(database, made, JobKind.sft)
    monkeypatch.setattr(runner, "_owner", lambda: None)  # a job that runs has an owner
    settings = settings_for("sqlite://", tmp_path)
    with pytest.raises(IntegrityError, match="running_has_an_owner"):
        await _claimed(database, job.id, settings, WorkerRoom(slot="GPU-1"))


async def test_what_needs_no_gpu_takes_no_slot(database: Database, made: Made, tmp_path: Path) -> None:
    jobs = [await enqueue(database, made, JobKind.deploy) for _ in range(2)]
    settings, room = settings_for("sqlite://", tmp_path), WorkerRoom(slot="GPU-1")
    for job in jobs:
        found = await _claimed(database, job.id, settings, room)
        assert found is not None and found.slot is None


def test_a_worker_has_the_slot_that_it_is_told_or_that_of_its_gpus_or_none(tmp_path: Path) -> None:
    here = Machine(64 * GIB, (Gpu("GPU-2", "a", 24 * GIB), Gpu("GPU-1", "b", 24 * GIB)))
    settings = settings_for("sqlite://", tmp_path)
    assert _room(settings, here) == WorkerRoom(24 * GIB, "GPU-1,GPU-2")
    assert _room(settings, Machine(64 * GIB, ())) == WorkerRoom(64 * GIB, None)
    told = settings.model_copy(update={"gpu_slot": "big/1", "worker_memory_gib": 8.0})
    assert _room(told, here) == WorkerRoom(8 * GIB, "big/1")


def test_a_worker_on_a_gpu_that_nobody_names_is_told_how_to_name_it(tmp_path: Path) -> None:
    on_gpu = settings_for("sqlite://", tmp_path).model_copy(update={"vllm_device": "gpu"})
    on_cpu = on_gpu.model_copy(update={"vllm_device": "cpu"})
    with capture_logs() as lines:
        _warn_without_slot(on_gpu, WorkerRoom(slot="GPU-1"))
        _warn_without_slot(on_cpu, WorkerRoom())
        assert lines == []
        _warn_without_slot(on_gpu, WorkerRoom())
    [line] = lines
    assert line["event"] == "gpu_without_slot" and "STEERWISE_GPU_SLOT" in line["told"]


# ------------------------------------------------------------------------------------------------------- priorities


async def told(database: Database, job: Job) -> Job:
    """A worker of the GPU queue hears of this job."""
    async with transaction(database) as session:
        begun = await service.claim(session, job.id, "a worker", 60, GPU)
    assert begun is not None
    return begun


async def test_of_a_tenants_jobs_the_highest_priority_begins_first(database: Database, made: Made) -> None:
    low, normal, high = [
        await enqueue(database, made, JobKind.sft, priority=priority) for priority in Priority
    ]
    assert [(await told(database, low)).id for _ in Priority] == [high.id, normal.id, low.id]


async def test_a_priority_is_no_way_past_another_tenants_turn(
    database: Database, scope: TenantScope, other_scope: TenantScope
) -> None:
    loud, modest = await make_run(database, scope), await make_run(database, other_scope)
    first, second = [await enqueue(database, loud, JobKind.sft, priority=Priority.high) for _ in range(2)]
    waiting = await enqueue(database, modest, JobKind.sft, priority=Priority.low)
    began = [(await told(database, first)).id, (await told(database, second)).id]
    assert waiting.id in began


async def test_what_follows_a_run_has_its_priority(database: Database, made: Made) -> None:
    async def of_run() -> Priority:
        async with transaction(database, made.scope, read_only=True) as session:
            return await service.priority_of_run(session, made.scope, made.run_id)

    assert await of_run() is Priority.normal
    await enqueue(database, made, JobKind.sft, run_id=made.run_id, priority=Priority.high)
    assert await of_run() is Priority.high


def test_a_priority_is_stored_as_its_rank() -> None:
    assert [priority.rank for priority in Priority] == [-1, 0, 1]
    assert [Priority.of(priority.rank) for priority in Priority] == list(Priority)
