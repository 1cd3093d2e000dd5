"""Whose fault an error is, of what real servers raise through the real drivers."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import redis
import structlog
from fastapi import Depends
from kombu import Connection
from sqlalchemy import text

from app.auth.access import no_key
from app.errors import AppError, InputError, NoSpace, Unavailable
from app.infra import outage
from app.infra.db.engine import Database, open_database
from app.infra.db.session import Session
from app.infra.outage import DatabaseAway, OutageLog, fault_of, said_plainly
from tests.callers import Callers
from tests.servers import postgres
from tests.servers.postgres import Place
from training.protocol import Fault

pytestmark = pytest.mark.anyio
RAISED = "DO $$ BEGIN RAISE EXCEPTION 'as the test wants' USING ERRCODE = '{}'; END $$"


async def caught(database: Database, statement: str, **values: object) -> BaseException:
    with pytest.raises(Exception) as found:
        async with database.engine.begin() as connection:
            await connection.execute(text(statement), values)
    return found.value


@pytest.mark.parametrize(
    ("state", "fault"),
    [
        ("57P01", Fault.away),  # shutting down
        ("57P03", Fault.away),  # starting up
        ("57014", Fault.away),  # a statement that took too long
        ("53300", Fault.away),  # too many connections
        ("53200", Fault.away),  # out of memory
        ("53100", Fault.full),
        ("08006", Fault.away),
        ("40P01", Fault.away),  # a deadlock
        ("25006", Fault.away),  # a standby
        ("58030", Fault.away),  # its disk cannot be read
        ("XX000", Fault.ours),
        ("P0001", Fault.ours),
    ],
)
async def test_what_postgresql_says_of_itself(state: str, fault: Fault, postgresql: Database) -> None:
    assert fault_of(await caught(postgresql, RAISED.format(state))) is fault


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM nowhere",
        "SELECT 1 / 0",
        "INSERT INTO tenants (id) VALUES (gen_random_uuid())",
        "SELEC 1",
    ],
)
async def test_a_wrong_statement_is_no_outage(statement: str, postgresql: Database) -> None:
    assert fault_of(await caught(postgresql, statement)) is Fault.ours


async def test_a_wrong_argument_is_no_outage(postgresql: Database) -> None:
    error = await caught(postgresql, "SELECT 1 FROM tenants WHERE created_at = :day", day="tomorrow")
    assert fault_of(error) is Fault.ours


async def test_a_server_that_ends_our_connection_is_away(postgresql: Database, place: Place) -> None:
    async with postgresql.engine.connect() as connection:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        asking = asyncio.create_task(connection.execute(text("SELECT pg_sleep(60)")))
        await asyncio.sleep(0.2)
        await postgres.sql(place.admin_url, f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(Exception) as found:
            await asking
        assert fault_of(found.value) is Fault.away


@pytest.fixture
async def crowded(place: Place) -> AsyncIterator[Database]:
    """Its server takes no connection of ours any more."""
    await postgres.sql(place.admin_url, f"ALTER ROLE {postgres.APP} CONNECTION LIMIT 0")
    opened = open_database(place.app_url)
    try:
        yield opened
    finally:
        await opened.engine.dispose()
        await postgres.sql(place.admin_url, f"ALTER ROLE {postgres.APP} CONNECTION LIMIT -1")


@pytest.mark.seconds
async def test_a_server_with_too_many_connections_is_away(crowded: Database) -> None:
    error = await caught(crowded, "SELECT 1")
    assert "too many connections" in str(error)
    assert fault_of(error) is Fault.away


@pytest.mark.parametrize(
    "url", ["postgresql://nobody@127.0.0.1:1/x", "postgresql://nobody@no.such.host.test/x"]
)
async def test_a_server_that_is_not_there_is_away(url: str) -> None:
    database = open_database(url)
    assert fault_of(await caught(database, "SELECT 1")) is Fault.away
    await database.engine.dispose()


async def test_who_is_not_known_there_is_for_somebody_to_mend_and_a_command_says_so(place: Place) -> None:
    database = open_database(place.app_url.replace(postgres.APP, "a_stranger"))
    error = await caught(database, "SELECT 1")
    await database.engine.dispose()
    assert fault_of(error) is Fault.ours
    with pytest.raises(DatabaseAway, match="a_stranger") as told, said_plainly():
        raise error
    assert told.value.exit_code == 2


async def test_a_sqlite_that_is_locked_full_gone_or_asked_wrongly(sqlite: Database, tmp_path: Path) -> None:
    writing = "INSERT INTO tenants (id) VALUES (1)"
    async with sqlite.engine.connect() as holder, sqlite.engine.connect() as other:
        await holder.execute(text("SELECT 1"))  # BEGIN IMMEDIATE
        await (await other.get_raw_connection()).driver_connection.execute("PRAGMA busy_timeout = 10")
        with pytest.raises(Exception) as locked:
            await other.execute(text("SELECT 1"))
    assert fault_of(locked.value) is Fault.away
    async with sqlite.engine.connect() as small:
        raw = (await small.get_raw_connection()).driver_connection
        await raw.execute("PRAGMA max_page_count = 1")
        with pytest.raises(Exception) as full:
            await small.execute(text("CREATE TABLE large AS SELECT randomblob(1000000) AS it"))
    assert fault_of(full.value) is Fault.full
    assert fault_of(await caught(sqlite, writing)) is Fault.ours
    assert fault_of(await caught(sqlite, "SELECT * FROM nowhere")) is Fault.ours
    gone = open_database(f"sqlite:///{tmp_path}/no/folder/steerwise.db")
    assert fault_of(await caught(gone, "SELECT 1")) is Fault.away
    await gone.engine.dispose()


@pytest.mark.seconds
def test_a_redis_that_is_away_or_full(redis_url: str) -> None:
    with pytest.raises(redis.ConnectionError) as away, redis.Redis(port=1) as client:
        client.ping()
    assert fault_of(away.value) is Fault.away
    at_once = {
        "max_retries": 0,
        "interval_start": 0,
        "interval_step": 0,
        "interval_max": 0,
    }  # as `app.worker`
    address = "redis://127.0.0.1:1/0"
    with pytest.raises(Exception) as kombu, Connection(address, transport_options=at_once) as connection:
        connection.default_channel.queue_declare("x")
    assert fault_of(kombu.value) is Fault.away
    with redis.Redis.from_url(redis_url) as client:
        before = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(redis.ResponseError) as full:
                client.set("a", "b")
        finally:
            client.config_set("maxmemory", before)
    assert fault_of(full.value) is Fault.full


def test_a_model_server_that_is_not_there_is_away() -> None:
    with pytest.raises(httpx.TransportError) as found:
        httpx.get("http://127.0.0.1:1")
    assert fault_of(found.value) is Fault.away


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), Fault.full),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), Fault.full),
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE)), Fault.away),
        (OSError(errno.EIO, os.strerror(errno.EIO)), Fault.away),
        (OSError("Multiple exceptions: [Errno 111] …, [Errno 99] …"), Fault.away),
        (FileNotFoundError(errno.ENOENT, "no such file"), Fault.ours),
        (PermissionError(errno.EACCES, "not allowed"), Fault.ours),
        (ValueError("a mistake of ours"), Fault.ours),
        (NoSpace("full"), Fault.full),
        (Unavailable("not now"), Fault.away),
        (InputError("wrong"), Fault.theirs),
        (AppError("broken"), Fault.ours),
    ],
)
def test_what_the_system_and_we_ourselves_raise(error: BaseException, fault: Fault) -> None:
    assert fault_of(error) is fault
    assert (outage.told(error) is not None) is (fault in (Fault.away, Fault.full))


async def asked(callers: Callers, state: str) -> httpx.Response:
    @callers.api.get(f"/raising/{state}", dependencies=[Depends(no_key)])
    async def raising(session: Session) -> None:
        await session.execute(text(RAISED.format(state)))

    return await (await callers.anonymous()).get(f"/raising/{state}")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_request_meets_an_outage_under_its_own_name(callers: Callers) -> None:
    away = await asked(callers, "57P01")
    assert (away.status_code, away.json()["code"]) == (503, "database_away")
    assert int(away.headers["retry-after"]) > 0
    full = await asked(callers, "53100")
    assert (full.status_code, full.json()["code"]) == (507, "disk_full")
    assert "goes on when there is room" in full.json()["detail"]
    ours = await asked(callers, "P0001")
    assert (ours.status_code, ours.json()["code"]) == (500, "internal")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_server_with_too_many_connections_is_no_mistake_of_a_request(
    crowded: Database, callers: Callers
) -> None:
    callers.api.state.database = crowded
    answer = await asked(callers, "P0001")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_away")


def test_an_outage_is_a_line_and_not_one_for_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(outage.time, "monotonic", lambda: now[0])
    written = OutageLog()
    with structlog.testing.capture_logs() as lines:
        for _ in range(50):
            written.note(DatabaseAway("away"), ConnectionRefusedError("refused"))
        now[0] += 31
        written.note(DatabaseAway("away"), ConnectionRefusedError("refused"))
    assert [(line["event"], line["code"], line["met_since_last_line"]) for line in lines] == [
        ("outage", "database_away", 0),
        ("outage", "database_away", 49),
    ]
    assert all("exc_info" not in line for line in lines)
