"""The request's transaction: committed before the answer goes out, or not at all."""

import httpx
import pytest
from fastapi import FastAPI, Request
from sqlalchemy import func, select, text

from app.infra.db.engine import Database
from app.infra.db.session import Session, show_platform, transaction
from app.infra.tables.tenants import Tenant

pytestmark = pytest.mark.anyio


@pytest.fixture
def api(sqlite: Database) -> FastAPI:
    api = FastAPI()
    api.state.database = sqlite
    api.state.before_commit = api.state.after_reading = _nothing

    @api.post("/tenants", status_code=201)
    async def create(request: Request, session: Session, name: str) -> dict[str, str]:
        show_platform(request)
        session.add(Tenant(name=name))
        return {"name": name}

    @api.post("/orphans", status_code=201)
    async def orphan(request: Request, session: Session) -> dict[str, str]:
        """Every statement succeeds and the commit fails."""
        show_platform(request)
        await session.execute(text("PRAGMA defer_foreign_keys = ON"))
        await session.execute(text("INSERT INTO usage_days VALUES ('no such tenant', '2026-01-01', 1, 1, 1)"))
        return {"name": "stored"}

    return api


async def _nothing(*_asked: object) -> None:
    """What operations leave behind is not this test's."""


def client(api: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=api, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://api")


async def tenants(database: Database) -> int:
    async with transaction(database) as session:
        return await session.scalar(select(func.count()).select_from(Tenant)) or 0


async def test_a_request_that_succeeds_is_committed(api: FastAPI) -> None:
    async with client(api) as http:
        assert (await http.post("/tenants", params={"name": "one"})).status_code == 201
    assert await tenants(api.state.database) == 1


async def test_a_commit_that_fails_is_an_error_and_not_a_success(api: FastAPI) -> None:
    async with client(api) as http:
        answer = await http.post("/orphans")
    assert answer.status_code == 500
    async with api.state.database.engine.connect() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM usage_days")).scalar() == 0


async def test_a_flush_that_fails_at_the_end_is_an_error_too(api: FastAPI) -> None:
    async with client(api) as http:
        first = await http.post("/tenants", params={"name": "one"})
        second = await http.post("/tenants", params={"name": "one"})
    assert (first.status_code, second.status_code) == (201, 500)
    assert await tenants(api.state.database) == 1
