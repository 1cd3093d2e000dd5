"""Jobs that say how much memory they need: a worker takes none that it has no room for, and nobody waits in silence."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.infra import machine
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.machine import Gpu, Machine
from app.infra.tables.jobs import Job, JobKind, JobState
from app.infra.tables.processes import Process, ProcessKind
from app.jobs import fitting, repository, service
from app.jobs.context import JobContext
from app.jobs.ends import JobOutcome
from app.jobs.handlers import HANDLERS, Queue, kinds_in
from app.jobs.runner import WorkerRoom, run_job
from app.local import product
from app.local.recipes import LocalSetup
from tests.app.jobs import factory
from tests.app.jobs.factory import Made, enqueue, events, make_run, read, settings_for

pytestmark = pytest.mark.anyio
GIB = 1 << 30
ALIVE_S = 30.0
GPU = kinds_in(Queue.gpu)


async def worker(database: Database, room_gib: float | None, queues: str = "gpu") -> Process:
    about: dict[str, Any] = {"queues": queues.split(",")}
    about |= {} if room_gib is None else {"room_bytes": int(room_gib * GIB)}
    row = Process(id=uuid4(), kind=ProcessKind.worker, host="here", about=about)
    async with transaction(database) as session:
        session.add(row)
    return row


async def stage(database: Database, made: Made, needs_gib: float | None, kind: JobKind = JobKind.sft) -> Job:
    needs = None if needs_gib is None else int(needs_gib * GIB)
    return await enqueue(database, made, kind, run_id=made.run_id, needs_bytes=needs)


async def claimed(database: Database, job: Job, room_gib: float | None) -> Job | None:
    room = None if room_gib is None else int(room_gib * GIB)
    async with transaction(database) as session:
        return await service.claim(session, job.id, "a worker", 60, GPU, room)


async def sweep(database: Database, tmp_path: Path) -> None:
    await fitting.sweep(ALIVE_S, database, settings_for("sqlite://", tmp_path))


async def unfit(database: Database) -> int:
    async with transaction(database, read_only=True) as session:
        return await fitting.unfit(session, ALIVE_S)


async def test_a_worker_takes_what_fits_and_leaves_the_rest_to_others(
    database: Database, scope: TenantScope
) -> None:
    made = await make_run(database, scope)
    large, small = await stage(database, made, 40), await stage(database, made, 4, JobKind.rl)
    assert (found := await claimed(database, large, 8)) is not None and found.id == small.id
    assert await claimed(database, large, 8) is None
    assert (await read(database, large)).state is JobState.queued
    assert (found := await claimed(database, large, 40)) is not None and found.id == large.id


async def test_what_does_not_say_what_it_needs_and_a_worker_that_does_not_say_what_it_has_go_together(
    database: Database, scope: TenantScope
) -> None:
    made = await make_run(database, scope)
    silent, large = await stage(database, made, None), await stage(database, made, 400, JobKind.rl)
    assert await claimed(database, silent, 1) is not None
    assert await claimed(database, large, None) is not None


async def test_what_fits_no_worker_says_so_once_and_begins_when_one_comes(
    database: Database, scope: TenantScope, tmp_path: Path
) -> None:
    made = await make_run(database, scope)
    job = await stage(database, made, 40)
    await sweep(database, tmp_path)
    assert (await read(database, job)).error is None  # there is no worker at all, which is told elsewhere
    await worker(database, 24)
    await worker(database, 80, "cpu")
    for _ in range(2):
        await sweep(database, tmp_path)
    told = (await read(database, job)).error
    assert told is not None and told["code"] == fitting.NO_WORKER_FITS
    assert "needs 40.0 GiB" in told["message"] and "has 24.0 GiB" in told["message"]
    assert (await events(database, job)).count("waits_for_worker") == 1
    assert await unfit(database) == 1
    await worker(database, 48, "cpu,gpu")
    assert await unfit(database) == 0
    await sweep(database, tmp_path)
    assert (await read(database, job)).error is None
    assert (await events(database, job)).count("waits_for_worker") == 2


async def test_a_job_that_begins_after_all_no_longer_says_that_it_waits(
    database: Database, scope: TenantScope, tmp_path: Path
) -> None:
    made = await make_run(database, scope)
    job = await stage(database, made, 40)
    await worker(database, 24)
    await sweep(database, tmp_path)
    found = await claimed(database, job, 64)
    assert found is not None and found.error is None
    async with transaction(database) as session:
        broken = await repository.write(session, found, {"error": {"code": "other", "message": "it broke"}})
        again = await repository.write(session, broken, {"state": JobState.queued})
    found = await claimed(database, again, 64)
    assert found is not None and found.error is not None


async def test_a_worker_of_before_that_does_not_say_what_it_has_is_taken_to_fit(
    database: Database, scope: TenantScope, tmp_path: Path
) -> None:
    made = await make_run(database, scope)
    job = await stage(database, made, 40)
    await worker(database, 24)
    await worker(database, None)
    await sweep(database, tmp_path)
    assert (await read(database, job)).error is None and await unfit(database) == 0


async def test_a_message_for_a_job_that_does_not_fit_does_nothing(
    database: Database, database_url: str, scope: TenantScope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def done(_context: JobContext) -> JobOutcome:
        return JobOutcome()

    monkeypatch.setitem(HANDLERS, JobKind.deploy, done)
    made = await make_run(database, scope)
    job = await factory.enqueue(database, made, JobKind.deploy, needs_bytes=40 * GIB)
    settings = settings_for(database_url, tmp_path)
    await asyncio.to_thread(run_job, job.id, settings, lambda: False, WorkerRoom(8 * GIB))
    assert (await read(database, job)).state is JobState.queued
    await asyncio.to_thread(run_job, job.id, settings, lambda: False, WorkerRoom(64 * GIB))
    assert (await read(database, job)).state is JobState.succeeded


# -------------------------------------------------------------------------------------------------- what a machine has


def test_gpus_are_those_that_the_driver_tells_of() -> None:
    printed = "GPU-1, NVIDIA H200, 143771\nGPU-2, NVIDIA RTX 4000, SFF, 20475\nno line of ours\n"
    assert machine.parsed(printed) == (
        Gpu("GPU-1", "NVIDIA H200", 143771 << 20),
        Gpu("GPU-2", "NVIDIA RTX 4000, SFF", 20475 << 20),
    )


def test_a_stage_has_the_room_of_the_smallest_gpu_or_of_the_machine() -> None:
    assert Machine(64 * GIB, ()).room_bytes == 64 * GIB
    assert (
        Machine(64 * GIB, (Gpu("GPU-1", "a", 24 * GIB), Gpu("GPU-2", "b", 16 * GIB))).room_bytes == 16 * GIB
    )


def test_the_driver_is_asked_for_the_gpus_that_the_worker_may_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho "GPU-1, Some GPU, 24576"\n')
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert machine.machine(on_gpu=True).gpus == (Gpu("GPU-1", "Some GPU", 24 * GIB),)
    assert "--id=1" in (tmp_path / "asked").read_text()
    assert machine.machine(on_gpu=False).gpus == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.machine(on_gpu=True).gpus == ()
    driver.unlink()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.machine(on_gpu=True).gpus == ()


@pytest.mark.parametrize(("written", "gib"), [("max\n", None), (f"{3 * GIB}\n", 3), ("", None)])
def test_memory_is_what_the_container_may_use(tmp_path: Path, written: str, gib: int | None) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(written)
    whole = machine._memory_bytes(())
    assert machine._memory_bytes((tmp_path / "none", limit)) == (whole if gib is None else gib * GIB)


def test_a_worker_beside_a_model_server_on_one_gpu_has_what_that_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(**changed: object) -> str | None:
        settings = settings_for("sqlite://", tmp_path, vllm_gpu_memory_fraction=0.75, **changed)
        ground = product._beside_vllm(LocalSetup(settings, {}, 0, tmp_path))
        return ground.environment.get("STEERWISE_WORKER_MEMORY_GIB")

    gpus = (Gpu("GPU-1", "a", 24 * GIB),)
    monkeypatch.setattr(product, "machine", lambda *, on_gpu: Machine(64 * GIB, gpus))
    assert told(vllm_device="gpu") == "6.00"
    assert told(vllm_device="gpu", worker_memory_gib=20) is None  # who runs it knows better
    assert told(vllm_device="cpu") is None
    monkeypatch.setattr(product, "machine", lambda *, on_gpu: Machine(64 * GIB, ()))
    assert told(vllm_device="gpu") is None
