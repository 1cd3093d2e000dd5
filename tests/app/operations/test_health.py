"""Ready means that requests can be served."""

import asyncio
import re
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.auth import keys
from app.infra.db.base import utc_now
from app.infra.db.clock import now
from app.infra.db.engine import Database, open_database
from app.infra.db.isolation import IsolationOff
from app.infra.db.session import transaction
from app.infra.tables.deployments import DeploymentState
from app.infra.tables.jobs import Job, JobKind
from app.infra.tables.processes import Process, ProcessKind
from app.main import create_app
from app.operations import repository
from app.operations.presence import ALIVE_S, announced, announcement
from app.operations.readiness import Readiness
from app.serving.replicas import Replicas
from app.settings import Settings
from tests.callers import Callers
from tests.factories.rows import deployment_of, save, story
from tests.servers.postgres import Place

pytestmark = pytest.mark.anyio


async def asked(api: FastAPI, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://x") as client,
    ):
        return await client.get(path, headers=headers)


async def test_a_process_that_runs_is_alive_and_one_with_a_database_is_ready(callers: Callers) -> None:
    client = await callers.anonymous()
    assert (await client.get("/livez")).json() == {"status": "alive"}
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["redis"]) == (200, "not configured")
    assert ready.json()["storage"] == "reachable" and ready.json()["free_mib"] > 0


async def test_what_works_in_the_background_is_seen_and_what_does_not_is_named(
    callers: Callers, settings: Settings, platform: httpx.AsyncClient
) -> None:
    client = await callers.anonymous()
    bare = (await client.get("/readyz")).json()
    assert (bare["status"], bare["dispatchers"], bare["workers"]) == ("degraded", 0, 0)
    assert [problem for problem in bare["problems"] if "no dispatcher" in problem]
    with ExitStack() as living:
        for kind in ProcessKind:
            living.enter_context(announced(settings, announcement(kind, queues=["cpu"])))
        async with asyncio.timeout(30):
            while (ready := (await client.get("/readyz")).json())["status"] != "ready":
                await asyncio.sleep(0.1)
        assert (ready["dispatchers"], ready["workers"], ready["problems"]) == (1, 1, [])
        figures = (await platform.get("/metrics")).text
        assert 'steerwise_processes_alive{kind="dispatcher"} 1.0' in figures
    gone = (await client.get("/readyz")).json()
    assert (gone["dispatchers"], gone["workers"]) == (0, 0)  # they said goodbye


async def test_one_that_said_no_goodbye_is_taken_for_dead(callers: Callers, database: Database) -> None:
    me = announcement(ProcessKind.worker)
    async with transaction(database) as session:
        row = {"id": me.id, "kind": me.kind, "host": "here", "about": me.about}
        await repository.note_seen(session, row)
        await repository.note_seen(session, row)  # again: the same row
        assert await repository.count_of(session, ProcessKind.worker, ALIVE_S) == 1
        await session.execute(update(Process).values(seen_at=now(-ALIVE_S - 1)))
    assert (await (await callers.anonymous()).get("/readyz")).json()["workers"] == 0


async def test_a_storage_a_model_server_and_a_disk_that_are_away_degrade_it(
    callers: Callers, settings: Settings
) -> None:
    Path(settings.storage_url).rename(Path(settings.storage_url).with_name("elsewhere"))
    trouble = settings.model_copy(update={"vllm_urls": ("http://127.0.0.1:1",), "min_free_mib": 1 << 40})
    state = callers.api.state
    state.settings = trouble
    state.readiness = Readiness(trouble, state.storage, Replicas(trouble))
    answer = await (await callers.anonymous()).get("/readyz")
    told = answer.json()
    assert (answer.status_code, told["status"], told["storage"]) == (200, "degraded", "unreachable")
    assert (told["model_servers"], told["model_servers_well"]) == (1, 0)
    for words in ("storage cannot be used", "1 of 1 model servers", "MiB free"):
        assert [problem for problem in told["problems"] if words in problem], words
    await state.readiness.aclose()


async def test_a_live_deployment_that_is_not_served_is_counted(callers: Callers) -> None:
    told = story()
    broken = deployment_of(told, state=DeploymentState.live, problem="of another base")
    async with transaction(callers.database) as session:
        await save(session, *told, broken)
    ready = (await (await callers.anonymous()).get("/readyz")).json()
    assert ready["deployments_not_served"] == 1
    assert [problem for problem in ready["problems"] if "live deployments are not served" in problem]


async def test_a_queue_is_measured_by_its_length_and_its_oldest(
    callers: Callers, platform: httpx.AsyncClient
) -> None:
    told = story()
    old = Job(id=uuid4(), tenant_id=told.tenant.id, kind=JobKind.sft, subject_id=told.run.id)
    old.available_at = utc_now() - timedelta(seconds=90)
    later = Job(id=uuid4(), tenant_id=told.tenant.id, kind=JobKind.rl, subject_id=told.run.id)
    later.available_at = utc_now() + timedelta(hours=1)
    async with transaction(callers.database) as session:
        await save(session, *told, old, later)
    figures = (await platform.get("/metrics")).text
    assert 'steerwise_queue_length{queue="gpu"} 1.0' in figures
    assert 'steerwise_queue_length{queue="cpu"} 0.0' in figures
    age = re.search(r'^steerwise_queue_oldest_seconds\{queue="gpu"\} (\S+)$', figures, re.MULTILINE)
    assert age is not None and 90 <= float(age[1]) < 300
    assert 'steerwise_jobs{kind="sft",state="queued"} 1.0' in figures
    assert str(told.tenant.id) not in figures


async def test_redis_alone_does_not_make_it_unready(settings: Settings, redis_url: str) -> None:
    up = settings.model_copy(update={"redis_url": redis_url})
    down = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    assert (await asked(create_app(up), "/readyz")).json()["redis"] == "reachable"
    answer = await asked(create_app(down), "/readyz")
    assert (answer.status_code, answer.json()["redis"]) == (200, "unreachable")


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all/steerwise.db", "postgresql://nobody@127.0.0.1:1/steerwise"]
)
async def test_without_its_database_it_is_alive_but_not_ready(url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=url, storage_url=str(tmp_path / "storage"))
    api = create_app(settings, open_database(url))
    assert (await asked(api, "/livez")).status_code == 200
    answer = await asked(api, "/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_away")
    assert int(answer.headers["retry-after"]) > 0
    nobody = await asked(api, "/v1/me")
    assert nobody.status_code == 401  # says so without asking the database
    bearer = {"Authorization": f"Bearer {keys.generate().text}"}
    somebody = await asked(api, "/v1/me", bearer)
    assert (somebody.status_code, somebody.json()["code"]) == (503, "database_away")


async def test_as_a_role_that_sees_every_tenant_it_neither_starts_nor_is_ready(
    postgresql: Database, place: Place, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, storage_url=str(tmp_path / "storage"))
    superuser = open_database(place.admin_url)
    with pytest.raises(IsolationOff):
        await asked(create_app(settings, superuser), "/livez")
    api = create_app(settings, postgresql)
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://x") as client,
    ):
        assert (await client.get("/readyz")).status_code == 200
        api.state.database = superuser  # as where it was away at the start
        assert (await client.get("/readyz")).status_code == 503
    await superuser.engine.dispose()


async def test_a_start_without_a_database_of_its_own_opens_and_closes_one(settings: Settings) -> None:
    api = create_app(settings)
    assert (await asked(api, "/readyz")).status_code == 200
    assert api.state.database.engine.pool.checkedout() == 0


async def test_the_secret_is_made_once_and_is_for_nobody_elses_eyes(settings: Settings) -> None:
    first, second = create_app(settings), create_app(settings)
    for api in (first, second):
        await asked(api, "/livez")
    assert first.state.secret == second.state.secret
    assert len(first.state.secret) >= 32
    assert (settings.home / "secret").stat().st_mode & 0o077 == 0
    assert [path.name for path in settings.home.iterdir() if path.name.startswith(".")] == []
    chosen = Settings(home=settings.home, secret="s" * 40)
    third = create_app(chosen)
    await asked(third, "/livez")
    assert third.state.secret == b"s" * 40
    assert "ssss" not in repr(chosen)
