"""Ready means that requests can be served."""

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.auth import keys
from app.infra.db.engine import Database, open_database
from app.infra.db.isolation import IsolationOff
from app.main import create_app
from app.settings import Settings
from tests.callers import Callers
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
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "redis": "not configured"})


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
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    nobody = await asked(api, "/v1/me")
    assert nobody.status_code == 401  # says so without asking the database
    bearer = {"Authorization": f"Bearer {keys.generate().text}"}
    somebody = await asked(api, "/v1/me", bearer)
    assert (somebody.status_code, somebody.json()["code"]) == (503, "unavailable")


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
