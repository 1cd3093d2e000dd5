"""From rows to messages in a real Redis: after the commit, again where one was lost, never without end."""

import asyncio
from pathlib import Path
from uuid import UUID

import pytest
import redis
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from app.infra.db import migrate
from app.infra.db.clock import now
from app.infra.db.engine import Database, open_database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.jobs import Job, JobKind, JobState
from app.jobs import dispatcher, repository, service
from app.jobs.dispatcher import BrokerAway, Dispatcher, Notifier
from app.jobs.ends import ON_END
from app.jobs.handlers import SWEEPS, Queue, register_sweep
from app.jobs.transition import MAX_LOSSES
from app.local.redis import embedded_redis
from app.settings import Settings
from app.worker import broker_url, notifier
from tests.app.jobs import factory
from tests.app.jobs.factory import Made, claim, enqueue, events, read

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    """Another test may have sent the log elsewhere."""
    structlog.reset_defaults()


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return factory.settings_for(database_url, tmp_path / "home", redis_url=redis_url, job_republish_s=60)


async def unpublished_for(database: Database, jobs: list[Job], seconds: float) -> None:
    for job in jobs:
        async with transaction(database) as session:
            row = await repository.get(session, TenantScope(job.tenant_id), job.id)
            assert row is not None
            await repository.write(session, row, {"published_at": now(-seconds)})


async def test_a_message_is_sent_after_the_commit_and_once(
    database: Database, made: Made, settings: Settings
) -> None:
    bell = notifier(settings)
    rounds = Dispatcher(database, bell, settings)
    async with transaction(database, made.scope) as session:
        job = await service.enqueue(session, made.scope, JobKind.sft, made.run_id)
        await rounds.round()
        assert bell.depth(Queue.gpu) == 0
    for _ in range(3):
        await rounds.round()
    assert (bell.depth(Queue.gpu), bell.depth(Queue.cpu)) == (1, 0)
    assert (await read(database, job)).published_at is not None


async def test_a_message_that_is_lost_is_sent_again_and_one_that_waits_is_not(
    database: Database, made: Made, settings: Settings, redis_url: str
) -> None:
    bell = notifier(settings)
    rounds = Dispatcher(database, bell, settings)
    jobs = [await enqueue(database, made) for _ in range(3)]
    await rounds.round()
    await unpublished_for(database, jobs, 61)
    await rounds.round()
    assert bell.depth(Queue.cpu) == 3  # all of them are still there: nobody has had time
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    await unpublished_for(database, jobs, 61)
    await rounds.round()
    assert bell.depth(Queue.cpu) == 3
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    await rounds.round()
    assert bell.depth(Queue.cpu) == 0  # published a moment ago: a worker may have it in hand


async def test_jobs_that_wait_in_a_long_queue_do_not_keep_others_from_theirs(
    database: Database, made: Made, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "AT_ONCE", 3)
    bell = notifier(settings)
    rounds = Dispatcher(database, bell, settings)
    waiting = [await enqueue(database, made, JobKind.sft) for _ in range(3)]
    await rounds.round()
    lost = await enqueue(database, made)
    await rounds.round()
    with redis.Redis.from_url(settings.redis_url or "") as client:
        client.delete("cpu")
    await unpublished_for(database, [*waiting, lost], 61)
    new = await enqueue(database, made)
    await rounds.round()
    assert (await read(database, new)).published_at is not None
    await rounds.round()
    assert (bell.depth(Queue.cpu), bell.depth(Queue.gpu)) == (2, 3)


async def test_nothing_is_sent_for_a_job_that_is_not_to_run_now(
    database: Database, made: Made, settings: Settings
) -> None:
    bell = notifier(settings)
    running = await claim(database, await enqueue(database, made))
    await enqueue(database, made, blocked=True, run_id=made.run_id)
    later = await enqueue(database, made)
    async with transaction(database) as session:
        row = await service.get(session, made.scope, later.id)
        await repository.write(session, row, {"available_at": now(60)})
    await Dispatcher(database, bell, settings).round()
    assert bell.depth(Queue.cpu) == 0
    assert (await read(database, running)).published_at is None


@pytest.mark.seconds
async def test_a_job_whose_worker_fell_silent_is_taken_back_and_sent_when_it_may_run(
    database: Database, made: Made, settings: Settings
) -> None:
    bell = notifier(settings)
    rounds = Dispatcher(database, bell, settings)
    job = await claim(database, await enqueue(database, made), lease_s=0.1)
    await asyncio.sleep(0.2)
    await rounds.round()
    row = await read(database, job)
    assert (row.state, row.losses, bell.depth(Queue.cpu)) == (JobState.queued, 1, 0)
    await asyncio.sleep(1.2)
    await rounds.round()
    assert bell.depth(Queue.cpu) == 1


async def test_one_job_that_cannot_be_ended_does_not_keep_the_others(
    database: Database, made: Made, settings: Settings
) -> None:
    async def fail(_session: AsyncSession, _job: Job) -> None:
        raise RuntimeError("a mistake of ours")

    broken = await claim(database, await enqueue(database, made, JobKind.gate), lease_s=0.1)
    async with transaction(database) as session:
        row = await service.get(session, made.scope, broken.id)
        await repository.write(session, row, {"losses": MAX_LOSSES - 1})
    other = await claim(database, await enqueue(database, made), lease_s=0.1)
    await asyncio.sleep(0.2)
    rounds = Dispatcher(database, notifier(settings), settings)
    ON_END[JobKind.gate] = fail
    with capture_logs() as lines:
        await rounds.round()
        await rounds.round()
    assert (await read(database, other)).state is JobState.queued
    assert (await read(database, broken)).state is JobState.running
    assert [line["event"] for line in lines].count("job_not_requeued") == 1
    del ON_END[JobKind.gate]  # the mistake has been mended
    await rounds.round()
    assert (await read(database, broken)).state is JobState.failed


@pytest.mark.fault
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_redis_may_be_away_and_come_back(
    database: Database, database_url: str, made: Made, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path / "home", database_url=database_url)
    with embedded_redis(tmp_path / "redis", settings) as server:
        named = settings.model_copy(update={"redis_url": server.url})
        bell = notifier(named)
        rounds = Dispatcher(database, bell, named)
        first = await enqueue(database, made)
        await rounds.round()
        server.child.kill()
        server.child.wait()
        jobs = [await enqueue(database, made) for _ in range(3)]
        with capture_logs() as lines:
            started = asyncio.get_running_loop().time()
            for _ in range(3):
                await rounds.round()
            assert asyncio.get_running_loop().time() - started < 5
            assert [line["event"] for line in lines] == ["dispatch_interrupted"]
            assert (await read(database, jobs[0])).published_at is None
            assert server.revive()
            async with asyncio.timeout(30):
                while not await asyncio.to_thread(server.healthy):
                    await asyncio.sleep(0.05)
            await rounds.round()
        assert [line["event"] for line in lines][-1] == "dispatch_resumed"
        assert bell.depth(Queue.cpu) in (
            3,
            4,
        )  # the first may have been written less than a second before the kill
        assert (await read(database, first)).published_at is not None


async def test_the_database_may_be_away_and_come_back(tmp_path: Path) -> None:
    rung: list[UUID] = []
    url = f"sqlite:///{tmp_path}/later/steerwise.db"
    database = open_database(url)
    bell = Notifier(lambda _queue, job_id: rung.append(job_id), lambda _queue: 0)
    rounds = Dispatcher(database, bell, Settings(home=tmp_path))
    with capture_logs() as lines:
        for _ in range(3):
            await rounds.round()
        told = [(line["event"], line["step"]) for line in lines]
        assert told == [("dispatch_interrupted", "database version")]  # nothing else is asked of what is away
        (tmp_path / "later").mkdir()
        await asyncio.to_thread(migrate.upgrade, url)
        await rounds.round()
    assert [line["event"] for line in lines][1:] == ["dispatch_resumed"]
    await database.engine.dispose()


async def test_what_was_rung_before_redis_went_away_is_not_rung_again(
    database: Database, made: Made, settings: Settings
) -> None:
    rung: list[UUID] = []

    def ring(_queue: Queue, job_id: UUID) -> None:
        if len(rung) == 2:
            raise BrokerAway("gone")
        rung.append(job_id)

    jobs = [await enqueue(database, made) for _ in range(4)]
    await Dispatcher(database, Notifier(ring, lambda _queue: 0), settings).round()
    published = [(await read(database, job)).published_at is not None for job in jobs]
    assert published == [True, True, False, False]
    assert await events(database, jobs[0]) == ["queued"]


async def test_sweeps_are_called_again_and_again_and_one_that_fails_or_hangs_stops_nobody(
    database: Database, made: Made, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    called = {"good": 0, "bad": 0}

    async def good(_database: Database, _settings: Settings) -> None:
        called["good"] += 1

    async def bad(_database: Database, _settings: Settings) -> None:
        called["bad"] += 1
        raise RuntimeError("a mistake of ours")

    async def stuck(_database: Database, _settings: Settings) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(dispatcher, "EVERY_S", 0.02)
    for name in list(SWEEPS):
        monkeypatch.delitem(SWEEPS, name)
    for work in (good, bad, stuck):
        monkeypatch.setitem(SWEEPS, work.__name__, None)  # taken back with the rest
        register_sweep(work.__name__, work, 0.02)
    bell = notifier(settings)
    await enqueue(database, made)
    stop = asyncio.Event()
    with capture_logs() as lines:
        running = asyncio.create_task(Dispatcher(database, bell, settings).run(stop))
        async with asyncio.timeout(60):
            while min(called.values()) < 3 or bell.depth(Queue.cpu) == 0:
                await asyncio.sleep(0.02)
            stop.set()
            await running
    assert [line["step"] for line in lines if line["event"] == "dispatch_interrupted"] == ["sweep bad"]


async def test_the_dispatcher_stops_when_it_is_told(database: Database, settings: Settings) -> None:
    stop = asyncio.Event()
    rounds = Dispatcher(database, notifier(settings), settings)
    running = asyncio.create_task(rounds.run(stop))
    await asyncio.sleep(0.1)
    stop.set()
    async with asyncio.timeout(dispatcher.EVERY_S * 10):
        await running


def test_a_unix_socket_has_the_name_that_celery_gives_it(tmp_path: Path) -> None:
    assert broker_url(Settings(redis_url="unix:///run/redis.sock")) == "redis+socket:///run/redis.sock"
    assert broker_url(Settings(redis_url="rediss://:secret@host:6380/1")) == "rediss://:secret@host:6380/1"
