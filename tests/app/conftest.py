"""Databases and servers for tests of the product. Every test with `database` runs on SQLite and on PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import redis
import structlog

from app.auth.principal import Scope
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.private import keep_files_private
from app.infra.tables.tenants import Tenant
from app.settings import Settings
from tests.callers import Callers
from tests.servers import databases
from tests.servers.postgres import Place
from tests.servers.redis import redis_url as redis_server

DATABASES = ("sqlite", "postgresql")
# By default it draws every local variable of every frame, which takes seconds for each logged exception.
structlog.dev.ConsoleRenderer.get_active().exception_formatter = structlog.dev.plain_traceback
# As every process of the product has it: a home that a test's helper makes first is then no open one.
keep_files_private()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def place() -> Place:
    """PostgreSQL, migrated, without rows."""
    found = databases.postgres_place()
    databases.empty(found)
    return found


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Migrated, without rows; on PostgreSQL as the application's role, with the platform's in the environment."""
    if request.param == "sqlite":
        return databases.sqlite_url(tmp_path)
    found: Place = request.getfixturevalue("place")
    monkeypatch.setenv("STEERWISE_PLATFORM_DATABASE_URL", found.platform_url)
    return found.app_url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with _opened(database_url) as opened:
        yield opened


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Not async: the first one migrates, which runs a loop of its own."""
    return databases.sqlite_url(tmp_path)


@pytest.fixture
async def sqlite(sqlite_url: str) -> AsyncIterator[Database]:
    """For what holds on SQLite alone."""
    async with _opened(sqlite_url) as opened:
        yield opened


@pytest.fixture
async def postgresql(place: Place) -> AsyncIterator[Database]:
    """For what holds on PostgreSQL alone."""
    async with _opened(place.app_url) as opened:
        yield opened


@pytest.fixture
async def scope(database: Database) -> TenantScope:
    return await _tenant(database, "one")


@pytest.fixture
async def other_scope(database: Database) -> TenantScope:
    return await _tenant(database, "other")


@pytest.fixture
def redis_url() -> str:
    """An empty Redis."""
    url = redis_server()
    with redis.Redis.from_url(url) as client:
        client.flushall()
    return url


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(home=tmp_path / "home", database_url=database_url, storage_url=str(tmp_path / "storage"))


@pytest.fixture
async def callers(settings: Settings, database: Database) -> AsyncIterator[Callers]:
    """The API, started, and the makers of its clients."""
    from app.main import create_app  # here, since most tests below this folder need no web server

    api = create_app(settings, database)
    async with api.router.lifespan_context(api), AsyncExitStack() as until:
        yield Callers(api, database, until)


@pytest.fixture
async def client(callers: Callers, scope: TenantScope) -> httpx.AsyncClient:
    """With an admin's key of the tenant `scope`."""
    return await callers.of(scope, Scope.admin)


@pytest.fixture
async def other_client(callers: Callers, other_scope: TenantScope) -> httpx.AsyncClient:
    """With an admin's key of the tenant `other_scope`."""
    return await callers.of(other_scope, Scope.admin)


@pytest.fixture
async def platform(callers: Callers) -> httpx.AsyncClient:
    """With a key of an admin of the platform, who names the tenant with `X-Tenant`."""
    return await callers.platform()


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Database]:
    opened = databases.opened(url)
    try:
        yield opened
    finally:
        await opened.close()


async def _tenant(database: Database, name: str) -> TenantScope:
    async with transaction(database) as session:
        session.add(tenant := Tenant(name=name))
    return TenantScope(tenant.id)
