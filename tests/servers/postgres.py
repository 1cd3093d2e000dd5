"""PostgreSQL for tests: STEERWISE_TEST_POSTGRES_URL (a superuser's), else a server of our own.

Where there is none, every test that needs one fails and says so: that is no reason to skip.
"""

import asyncio
import atexit
import contextlib
import os
import shutil
import tempfile
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import URL, make_url

from app.faults.postgres import NoPostgres, PostgresServer

OWNER, APP, PLATFORM = "steerwise_owner", "steerwise_app", "steerwise_platform"
PASSWORD = "steerwise"
START_TIMEOUT_S = 300  # on a machine that is busy with something else
_QUICK = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "autovacuum": "off",  # few rows, which go after each test
    "jit": "off",
    "statement_timeout": "100s",  # less than a test may take: what runs for hours is then named, and ends
}


class Server(NamedTuple):
    admin: URL

    def url(self, database: str, role: str | None = None) -> str:
        """role: None for the superuser."""
        url = self.admin.set(database=database)
        url = url if role is None else url.set(username=role, password=PASSWORD)
        return url.render_as_string(hide_password=False)


class Place(NamedTuple):
    """One database: as the superuser, as the owner of the tables, and as the application and the platform see it."""

    admin_url: str
    owner_url: str
    app_url: str
    platform_url: str


@cache
def server() -> Server:
    """One for this process; it ends with the process."""
    given = os.environ.get("STEERWISE_TEST_POSTGRES_URL")
    found = Server(make_url(given).set(drivername="postgresql") if given else _start())
    asyncio.run(_wait(found.url(found.admin.database or "postgres")))
    for role in (OWNER, APP, PLATFORM):
        options = "LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB"
        with contextlib.suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            run_sql(found.url("postgres"), f"CREATE ROLE {role} {options} PASSWORD '{PASSWORD}'")
    return found


def create_database() -> Place:
    """Empty, and owned by a role that is neither the superuser nor the application's."""
    name = f"steerwise_{uuid.uuid4().hex[:12]}"
    run_sql(server().url("postgres"), f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE template0")
    return Place(
        server().url(name), server().url(name, OWNER), server().url(name, APP), server().url(name, PLATFORM)
    )


def drop_database(place: Place) -> None:
    run_sql(server().url("postgres"), f"DROP DATABASE {make_url(place.admin_url).database} WITH (FORCE)")


def run_sql(url: str, *statements: str) -> list[list[Any]]:
    """What the last statement returned. Each is committed by itself. Not from a coroutine: use `sql`."""
    return asyncio.run(sql(url, *statements))


async def sql(url: str, *statements: str) -> list[list[Any]]:
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = []
        for statement in statements:
            rows = await connection.fetch(statement)
        return [list(row) for row in rows]
    finally:
        await connection.close()


def _start() -> URL:
    # In the system's own place: nobody else may enter the folders that pytest makes, and a socket's path is short.
    folder = Path(tempfile.mkdtemp(prefix="sw-pg-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = PostgresServer(folder, _QUICK)
    made.start()
    atexit.register(made.stop_at_once)  # nothing of it is needed again
    return made.admin


async def _wait(url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return await (await asyncpg.connect(url)).close()
        except (OSError, asyncpg.CannotConnectNowError) as error:
            if time.monotonic() > deadline:
                raise NoPostgres(f"PostgreSQL did not start in {START_TIMEOUT_S} s: {error}") from error
            await asyncio.sleep(0.1)


def as_platform(url: str) -> str | None:
    """The same database as the role that sees every tenant; None on SQLite, and for a role that does so itself."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "postgresql" or parsed.username != APP:
        return None
    return parsed.set(username=PLATFORM).render_as_string(hide_password=False)
