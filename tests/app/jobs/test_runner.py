"""A job in one process: what its handler sees, how each of its ends is written, and when it is told to stop."""

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url
from structlog.testing import capture_logs

from app.faults.process_tree import alive, descendants
from app.infra.db.clock import now
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.outage import DatabaseAway
from app.infra.storage import open_storage
from app.infra.tables.jobs import Job, JobKind, JobState
from app.jobs import repository, runner, service
from app.jobs.context import JobContext, log_key
from app.jobs.ends import JobOutcome
from app.jobs.handlers import HANDLERS, QUEUE_OF
from app.jobs.lease import LeaseLost
from app.jobs.runner import run_job
from app.settings import Settings
from tests.app.jobs import work
from tests.app.jobs.factory import Made, enqueue, events, read, settings_for

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def handlers() -> None:
    work.register_all()


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return settings_for(database_url, tmp_path / "home", stage_stop_timeout_s=2)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    return {"started": str(tmp_path / "started"), "go_on": str(tmp_path / "go_on")}


async def run(job: Job, settings: Settings, shutting_down: Callable[[], bool] = lambda: False) -> None:
    await asyncio.to_thread(run_job, job.id, settings, shutting_down)


async def until(holds: Callable[[], bool], timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.05)


async def begun(files: dict[str, Any]) -> None:
    await until(Path(files["started"]).exists)


async def test_a_job_runs_and_leaves_its_result_its_events_and_its_log(
    database: Database, made: Made, settings: Settings, files: dict[str, Any]
) -> None:
    job = await enqueue(database, made, payload=files)
    Path(files["go_on"]).touch()
    await run(job, settings)
    row = await read(database, job)
    assert (row.state, row.attempt, row.owner, row.error) == (JobState.succeeded, 1, None, None)
    assert row.progress == {"done": 1, "total": 3, "message": "waiting"}
    assert await events(database, job) == ["queued", "started", "metric", "metric", "succeeded"]
    with open_storage(settings.storage_url).open_read(log_key(service.ticket_of(row))) as kept:
        assert kept.read() == b"waited\n"
    assert list((settings.home / "jobs").iterdir()) == []
    await run(job, settings)  # a message that comes again
    assert (await read(database, job)).epoch == 1


async def test_progress_is_seen_while_the_job_runs(
    database: Database, made: Made, settings: Settings, files: dict[str, Any]
) -> None:
    job = await enqueue(database, made, payload=files)
    running = asyncio.create_task(run(job, settings))
    await begun(files)
    async with asyncio.timeout(30):
        while (await read(database, job)).progress is None:
            await asyncio.sleep(0.05)
    assert await events(database, job) == ["queued", "started", "metric"]
    Path(files["go_on"]).touch()
    await running


async def test_what_the_input_is_to_blame_for_is_told_and_not_tried_again(
    database: Database, made: Made, settings: Settings
) -> None:
    job = await enqueue(database, made, JobKind.validate_dataset)
    await run(job, settings)
    row = await read(database, job)
    assert row.state is JobState.failed
    assert row.error == {"code": "bad_input", "message": "row 3 has no text", "details": ["line 3: empty"]}


async def test_what_may_pass_is_tried_again(database: Database, made: Made, settings: Settings) -> None:
    job = await enqueue(database, made, JobKind.rl)
    await run(job, settings)
    row = await read(database, job)
    assert (row.state, row.attempt) == (JobState.queued, 1)
    assert row.error == {"code": "serving_failed", "message": "vLLM does not answer", "details": []}


async def test_a_database_that_goes_away_costs_the_job_no_attempt(
    database: Database, made: Made, settings: Settings
) -> None:
    job = await enqueue(database, made, JobKind.distill, max_attempts=1)
    await run(job, settings)
    row = await read(database, job)
    assert (row.state, row.attempt, row.losses) == (JobState.queued, 0, 0)
    assert row.error is not None and row.error["code"] == "database_away"


async def test_a_handler_that_learns_of_a_lost_lease_first_is_no_failure(
    database: Database, made: Made, settings: Settings
) -> None:
    async def lose(_context: JobContext) -> JobOutcome:
        raise LeaseLost

    HANDLERS[JobKind.deploy] = lose
    job = await enqueue(database, made)
    with capture_logs() as lines:
        await run(job, settings)
    told = [line["event"] for line in lines]
    assert "job_lost" in told and "job_failed" not in told
    assert (await read(database, job)).state is JobState.running  # until its lease is over


async def test_a_job_that_a_worker_was_told_of_begins_when_the_database_is_back(
    database: Database, made: Made, settings: Settings, files: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[None] = []

    async def away_at_first(_database: Database) -> None:
        tries.append(None)
        if len(tries) < 3:
            raise DatabaseAway("the database does not answer now")

    monkeypatch.setattr(runner, "check_version", away_at_first)
    monkeypatch.setattr(runner, "_RETRY_S", 0.01)
    job = await enqueue(database, made, payload=files)
    Path(files["go_on"]).touch()
    with capture_logs() as lines:
        await run(job, settings)
    assert (await read(database, job)).state is JobState.succeeded
    assert [line["event"] for line in lines].count("job_waits_for_the_database") == 1  # of two tries in vain


async def test_a_worker_that_ends_does_not_wait_for_the_database(
    database: Database, made: Made, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter([False, True])  # at the message, and after the try

    async def away(_database: Database) -> None:
        raise DatabaseAway("the database does not answer now")

    monkeypatch.setattr(runner, "check_version", away)
    job = await enqueue(database, made)
    await run(job, settings, lambda: next(asked))
    assert (await read(database, job)).state is JobState.queued


async def test_what_nobody_expected_is_told_without_its_words(
    database: Database, made: Made, settings: Settings
) -> None:
    job = await enqueue(database, made, JobKind.traces, max_attempts=1)
    await run(job, settings)
    row = await read(database, job)
    assert row.state is JobState.failed
    assert row.error is not None and row.error["code"] == "internal"
    assert "customer" not in str(row.error)


async def test_a_kind_that_nobody_knows_is_no_success(
    database: Database, made: Made, settings: Settings
) -> None:
    HANDLERS.clear()
    job = await enqueue(database, made, max_attempts=1)
    await run(job, settings)
    row = await read(database, job)
    assert row.state is JobState.failed
    assert row.error is not None and row.error["code"] == "no_handler"


async def test_a_cancelled_coroutine_ends_at_its_await(
    database: Database, made: Made, settings: Settings, files: dict[str, Any]
) -> None:
    job = await enqueue(database, made, payload=files)
    running = asyncio.create_task(run(job, settings))
    await begun(files)
    async with transaction(database, made.scope) as session:
        await service.request_cancel(session, made.scope, job.id)
    async with asyncio.timeout(30):
        await running
    row = await read(database, job)
    assert (row.state, row.error) == (JobState.cancelled, None)
    assert list((settings.home / "jobs").iterdir()) == []


async def test_a_cancelled_stage_ends_with_its_child(
    database: Database, made: Made, settings: Settings, files: dict[str, Any]
) -> None:
    job = await enqueue(database, made, JobKind.gate, payload=files)
    running = asyncio.create_task(run(job, settings))
    log = settings.home / "jobs" / str(job.id) / "1" / "work" / "stage.log"
    await until(lambda: log.is_file() and "training" in log.read_text())
    children = children_of_this_process()
    assert children
    async with transaction(database, made.scope) as session:
        await service.request_cancel(session, made.scope, job.id)
    async with asyncio.timeout(30):
        await running
    assert (await read(database, job)).state is JobState.cancelled
    assert not any(alive(pid) for pid in children)


def children_of_this_process() -> list[int]:
    """Those that sleep as a stage does. Another process runs other tests, and has such children too."""
    found = []
    for pid in descendants(os.getpid()):
        try:
            if b"print('training'" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue  # it has ended meanwhile
    return found


async def test_a_worker_that_has_lost_its_job_stops_and_writes_nothing(
    database: Database, made: Made, settings: Settings, files: dict[str, Any]
) -> None:
    job = await enqueue(database, made, payload=files)
    running = asyncio.create_task(run(job, settings))
    await begun(files)
    ticket = service.ticket_of(await read(database, job))
    async with transaction(database, made.scope) as session:
        held = await service.hold(session, ticket)
        await repository.write(session, held, {"lease_until": now(-1)})
        assert await service.expire(session, ticket) is not None
    async with asyncio.timeout(30):
        await running
    row = await read(database, job)
    assert (row.state, row.losses, row.epoch) == (JobState.queued, 1, 1)
    assert (await events(database, job))[-1] == "lost"


async def test_a_worker_that_shuts_down_hands_its_job_back(
    database: Database, made: Made, settings: Settings, files: dict[str, Any]
) -> None:
    job = await enqueue(database, made, payload=files)
    leaving = threading.Event()
    running = asyncio.create_task(run(job, settings, leaving.is_set))
    await begun(files)
    leaving.set()
    async with asyncio.timeout(30):
        await running
    row = await read(database, job)
    assert (row.state, row.attempt, row.losses) == (JobState.queued, 0, 0)
    await run(job, settings, leaving.is_set)  # and takes no other
    assert (await read(database, job)).epoch == 1


@pytest.mark.slow
async def test_a_handler_that_blocks_its_loop_does_not_lose_its_lease(
    database: Database, database_url: str, made: Made, tmp_path: Path
) -> None:
    settings = settings_for(database_url, tmp_path / "home", job_lease_s=8)
    job = await enqueue(database, made, JobKind.sft, payload={"block_s": 12})
    running = asyncio.create_task(run(job, settings))
    while not running.done():
        async with transaction(database, read_only=True) as session:
            assert await repository.expired(session, 10) == []
        await asyncio.sleep(0.1)
    row = await read(database, job)
    assert (row.state, row.epoch, row.losses) == (JobState.succeeded, 1, 0)


@pytest.mark.fault
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_end_of_a_job_waits_for_a_database_that_is_away(
    database: Database, database_url: str, made: Made, tmp_path: Path, files: dict[str, Any]
) -> None:
    settings = settings_for(database_url, tmp_path / "home", job_lease_s=120, job_heartbeat_s=60)
    job = await enqueue(database, made, payload=files)
    running = asyncio.create_task(run(job, settings))
    await begun(files)
    path = make_url(database_url).database
    assert path is not None
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        Path(files["go_on"]).touch()
        started = time.monotonic()
        await asyncio.sleep(12)  # longer than a writer waits for another
        other.execute("COMMIT")
    async with asyncio.timeout(60):
        await running
    assert time.monotonic() - started > 11
    assert (await read(database, job)).state is JobState.succeeded
    assert (await events(database, job)).count("succeeded") == 1


def test_every_kind_of_job_has_a_queue() -> None:
    assert set(QUEUE_OF) == set(JobKind)
