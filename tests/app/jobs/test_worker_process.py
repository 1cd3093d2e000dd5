"""Real workers and a real dispatcher, with a real Redis between them, killed where it hurts."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from app.faults.process_tree import alive, children_of
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.processes import log_tail, spawn, stop
from app.infra.tables.jobs import Job, JobKind, JobState
from app.jobs import service
from app.local.recipes import free_port
from app.local.redis import RedisServer, embedded_redis
from app.settings import Settings
from tests.app.jobs import factory, work
from tests.app.jobs.factory import Made, enqueue, events, read

pytestmark = [pytest.mark.anyio, pytest.mark.fault]
ROOT = Path(__file__).parents[3]
TIMEOUT_S = 240  # for one step, on a machine that is busy with something else
SHORT_LEASE_S = 10
QUEUES = ("cpu", "gpu")


class Plant(NamedTuple):
    """start: a process of `tests.app.jobs.work`. go_on, started: the files that its handlers look at and write. api:
    where one that was started answers."""

    database: Database
    made: Made
    redis: RedisServer
    start: Callable[..., subprocess.Popen[bytes]]
    started: Path
    go_on: Path
    logs: Path
    api: str

    @property
    def payload(self) -> dict[str, Any]:
        return {"started": str(self.started), "go_on": str(self.go_on)}

    def starts(self) -> list[tuple[int, int]]:
        """Of each start the epoch and the process."""
        lines = self.started.read_text().splitlines() if self.started.exists() else []
        return [(int(epoch), int(pid)) for epoch, pid in (line.split() for line in lines)]


@pytest.fixture
def lease_s() -> float:
    """Only some of these tests wait for its end; in the others nobody is to lose a job by being slow."""
    return 600


@pytest.fixture
async def plant(
    database: Database, database_url: str, scope: TenantScope, tmp_path: Path, lease_s: float
) -> AsyncIterator[Plant]:
    made = await factory.make_run(database, scope)
    with _plant(database, database_url, made, tmp_path, lease_s) as built:
        yield built


@contextmanager
def _plant(
    database: Database, database_url: str, made: Made, tmp_path: Path, lease_s: float
) -> Iterator[Plant]:
    with ExitStack() as stack:
        server = stack.enter_context(embedded_redis(tmp_path / "redis", Settings()))
        port = free_port()
        environment = os.environ | {
            "STEERWISE_PORT": str(port),
            "PYTHONPATH": str(ROOT),
            "STEERWISE_HOME": str(tmp_path / "home"),
            "STEERWISE_DATABASE_URL": database_url,
            "STEERWISE_REDIS_URL": server.url,
            "STEERWISE_JOB_HEARTBEAT_S": "0.5",
            "STEERWISE_JOB_LEASE_S": str(lease_s),
            "STEERWISE_JOB_REPUBLISH_S": "2",
        }

        def start(*role: str) -> subprocess.Popen[bytes]:
            argv = [sys.executable, "-m", work.__name__, *role]
            child = spawn(argv, tmp_path / f"{role[0]}.log", environment)
            stack.callback(stop, child, 20)
            return child

        files, url = (tmp_path / "started", tmp_path / "go_on", tmp_path), f"http://127.0.0.1:{port}"
        yield Plant(database, made, server, start, *files, url)


async def until(plant: Plant, holds: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not holds():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError("\n".join(log_tail(plant.logs / "worker.log", 30))) from None


async def until_state(plant: Plant, job: Job, state: JobState) -> Job:
    row = await read(plant.database, job)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while row.state is not state:
                await asyncio.sleep(0.1)
                row = await read(plant.database, job)
    except TimeoutError:
        tail = log_tail(plant.logs / "worker.log", 30)
        raise AssertionError(f"{row.state.value}, {row.error}\n" + "\n".join(tail)) from None
    return row


async def test_a_job_goes_from_its_row_through_redis_to_a_worker_and_ends_once(plant: Plant) -> None:
    plant.start("dispatcher")
    plant.start("worker", *QUEUES)
    plant.go_on.touch()
    jobs = [await enqueue(plant.database, plant.made, payload=plant.payload) for _ in range(3)]
    for job in jobs:
        row = await until_state(plant, job, JobState.succeeded)
        assert (row.attempt, row.epoch, row.losses) == (1, 1, 0)
        assert (await events(plant.database, job)).count("succeeded") == 1
    assert len(plant.starts()) == 3


@pytest.mark.parametrize("lease_s", [SHORT_LEASE_S])
async def test_a_job_whose_worker_was_killed_runs_again_and_ends_once(plant: Plant) -> None:
    plant.start("dispatcher")
    first = plant.start("worker", *QUEUES)
    job = await enqueue(plant.database, plant.made, payload=plant.payload)
    await until(plant, lambda: len(plant.starts()) == 1)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    plant.start("worker", *QUEUES)
    await until(plant, lambda: len(plant.starts()) == 2)
    plant.go_on.touch()
    row = await until_state(plant, job, JobState.succeeded)
    assert (row.attempt, row.losses, row.epoch) == (1, 1, 2)
    assert [epoch for epoch, _pid in plant.starts()] == [1, 2]
    told = await events(plant.database, job)
    assert (told.count("started"), told.count("lost"), told.count("succeeded")) == (2, 1, 1)


@pytest.mark.parametrize("lease_s", [SHORT_LEASE_S])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_pool_process_that_was_killed_is_replaced_and_its_job_runs_again(plant: Plant) -> None:
    plant.start("dispatcher")
    plant.start("worker", *QUEUES)
    job = await enqueue(plant.database, plant.made, payload=plant.payload)
    await until(plant, lambda: len(plant.starts()) == 1)
    os.kill(plant.starts()[0][1], signal.SIGKILL)
    plant.go_on.touch()
    row = await until_state(plant, job, JobState.succeeded)
    assert (row.losses, row.epoch) == (1, 2)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_nothing_of_a_worker_outlives_it(plant: Plant) -> None:
    """Its parent alone is killed: the pool process would go on with a job that nobody could stop any more."""
    plant.start("dispatcher")
    worker = plant.start("worker", *QUEUES)
    await enqueue(plant.database, plant.made, JobKind.gate, payload=plant.payload)
    await until(plant, lambda: len(plant.starts()) == 1)
    pool = plant.starts()[0][1]
    await until(plant, lambda: bool(children_of(pool)))
    stage = children_of(pool)[0]
    worker.kill()
    worker.wait()
    await until(plant, lambda: not alive(pool) and not alive(stage))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_worker_that_is_asked_to_end_hands_its_job_back_and_ends(plant: Plant) -> None:
    plant.start("dispatcher")
    first = plant.start("worker", *QUEUES)
    job = await enqueue(plant.database, plant.made, payload=plant.payload)
    await until(plant, lambda: len(plant.starts()) == 1)
    first.terminate()
    await until(plant, lambda: first.poll() is not None)
    row = await read(plant.database, job)
    assert (row.state, row.attempt, row.losses) == (JobState.queued, 0, 0)
    plant.start("worker", *QUEUES)
    plant.go_on.touch()
    assert (await until_state(plant, job, JobState.succeeded)).losses == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_pool_process_that_is_asked_to_end_stops_its_child_and_hands_its_job_back(
    plant: Plant,
) -> None:
    plant.start("dispatcher")
    plant.start("worker", *QUEUES)
    job = await enqueue(plant.database, plant.made, JobKind.gate, payload=plant.payload)
    await until(plant, lambda: len(plant.starts()) == 1)
    pool = plant.starts()[0][1]
    await until(plant, lambda: bool(children_of(pool)))
    stage = children_of(pool)[0]
    os.kill(pool, signal.SIGTERM)
    await until(plant, lambda: not alive(stage))
    await until(plant, lambda: len(plant.starts()) == 2)
    row = await read(plant.database, job)
    assert (row.losses, row.epoch) == (0, 2)
    assert "released" in await events(plant.database, job)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_worker_takes_only_from_its_own_queues(plant: Plant) -> None:
    plant.start("dispatcher")
    plant.start("worker", "cpu")
    plant.go_on.touch()
    long = await enqueue(plant.database, plant.made, JobKind.gate, payload=plant.payload)
    for _ in range(2):  # the second when both queues are known to Redis
        short = await enqueue(plant.database, plant.made, payload=plant.payload)
        await until_state(plant, short, JobState.succeeded)
    assert (await read(plant.database, long)).state is JobState.queued


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_redis_may_be_killed_under_a_running_job_and_a_waiting_worker(plant: Plant) -> None:
    plant.start("dispatcher")
    plant.start("worker", *QUEUES)
    running = await enqueue(plant.database, plant.made, payload=plant.payload)
    await until(plant, lambda: len(plant.starts()) == 1)
    plant.redis.child.kill()
    plant.redis.child.wait()
    waiting = await enqueue(plant.database, plant.made, payload=plant.payload)
    plant.go_on.touch()
    assert (await until_state(plant, running, JobState.succeeded)).epoch == 1  # it needed no Redis
    await asyncio.sleep(2)
    assert (await read(plant.database, waiting)).state is JobState.queued
    plant.redis.revive()
    assert (await until_state(plant, waiting, JobState.succeeded)).epoch == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_running_job_does_not_notice_that_the_api_is_replaced(plant: Plant) -> None:
    plant.start("dispatcher")
    plant.start("worker", *QUEUES)
    before = plant.start("api")
    await until(plant, lambda: answers(plant.api))
    job = await enqueue(plant.database, plant.made, payload=plant.payload)
    await until(plant, lambda: len(plant.starts()) == 1)
    stop(before, 60)
    assert not answers(plant.api)
    plant.start("api")
    await until(plant, lambda: answers(plant.api))
    plant.go_on.touch()
    row = await until_state(plant, job, JobState.succeeded)
    assert (row.attempt, row.epoch, row.losses) == (1, 1, 0)
    assert "lost" not in await events(plant.database, job)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_running_stage_is_cancelled_in_another_process(plant: Plant) -> None:
    plant.start("dispatcher")
    plant.start("worker", *QUEUES)
    job = await enqueue(plant.database, plant.made, JobKind.gate, payload=plant.payload)
    await until(plant, lambda: len(plant.starts()) == 1)
    async with transaction(plant.database, plant.made.scope) as session:
        await service.request_cancel(session, plant.made.scope, job.id)
    row = await until_state(plant, job, JobState.cancelled)
    assert row.epoch == 1


@pytest.mark.parametrize("lease_s", [SHORT_LEASE_S])
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_worker_that_slept_past_its_lease_finds_that_the_job_is_no_longer_its_own(
    plant: Plant,
) -> None:
    plant.start("dispatcher")
    first = plant.start("worker", *QUEUES)
    job = await enqueue(plant.database, plant.made, payload=plant.payload)
    await until(plant, lambda: len(plant.starts()) == 1)
    os.killpg(first.pid, signal.SIGSTOP)
    plant.start("worker", *QUEUES)
    await until(plant, lambda: len(plant.starts()) == 2)
    os.killpg(first.pid, signal.SIGCONT)
    plant.go_on.touch()
    row = await until_state(plant, job, JobState.succeeded)
    assert (row.epoch, row.losses) == (2, 1)
    assert (await events(plant.database, job)).count("succeeded") == 1
