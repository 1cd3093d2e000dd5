"""Clients that do not end what they began, over real connections: each is given its time and no more."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvicorn
from fastapi import Depends
from fastapi.responses import StreamingResponse

from app.auth.access import no_key
from app.auth.principal import Scope
from app.http import server
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.tenants import Tenant
from app.main import create_app
from app.settings import Settings
from tests.callers import Callers

pytestmark = pytest.mark.anyio
SHORT_S = 0.4
SOON_S = 10.0  # on a machine that is busy; far below what a client could hold before
HEAD = b"POST /v1/schemas HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


class Listening(NamedTuple):
    port: int
    key: str
    api: Any


class Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answered(self) -> bytes:
        """Everything until the server ends it. Raises: TimeoutError."""
        async with asyncio.timeout(SOON_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def head(self) -> bytes:
        async with asyncio.timeout(SOON_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))
        await self.writer.drain()

    async def feed(self, part: bytes, pause_s: float) -> None:
        """For as long as somebody takes it."""
        try:
            while True:
                await self.send(part)
                await asyncio.sleep(pause_s)
        except ConnectionError:
            pass


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", SHORT_S)
    monkeypatch.setattr(server, "LINGER_S", SHORT_S)
    monkeypatch.setattr(server, "WRITE_TIMEOUT_S", SHORT_S)
    monkeypatch.setattr("app.http.bodies.BODY_TIMEOUT_S", SHORT_S)


@pytest.fixture
async def listening(sqlite: Database, sqlite_url: str, tmp_path: Any) -> AsyncIterator[Listening]:
    async with _listening(sqlite, Settings(home=tmp_path / "home", database_url=sqlite_url)) as found:
        yield found


@asynccontextmanager
async def _listening(database: Database, settings: Settings) -> AsyncIterator[Listening]:
    async with transaction(database) as session:
        session.add(tenant := Tenant(name="one"))
    api = create_app(settings, database)
    async with asyncio.TaskGroup() as tasks, api.router.lifespan_context(api):
        key = await Callers(api, database, None).key_of(TenantScope(tenant.id), Scope.admin)  # type: ignore[arg-type]
        bound = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            api, lifespan="off", log_config=None, timeout_graceful_shutdown=1, **server.options(settings)
        )
        running = uvicorn.Server(config)
        tasks.create_task(running.serve([bound]))
        try:
            yield Listening(bound.getsockname()[1], key, api)
        finally:
            running.should_exit = True


@asynccontextmanager
async def connected(to: Listening) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", to.port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"", b""),
        (b"GET / HT", b""),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"x-more: 1\r\n"),
        (b"", b"\r\n"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nx-long: ", b"a"),
    ],
)
async def test_a_head_that_does_not_end_is_not_waited_for(
    listening: Listening, first: bytes, then: bytes
) -> None:
    async with connected(listening) as connection, asyncio.TaskGroup() as tasks:
        await connection.send(first)
        feeding = tasks.create_task(connection.feed(then, 0.02))
        assert await connection.answered() == b""
        feeding.cancel()


async def test_after_an_answer_the_next_head_has_its_time_too(listening: Listening) -> None:
    async with connected(listening) as connection:
        await connection.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await connection.head()).startswith(b"HTTP/1.1 200")
        await connection.send(b"\r\nGET /livez")
        assert b"HTTP/1.1" not in await connection.answered()


@pytest.mark.parametrize(
    "endless",
    [
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"x-more: 1\r\n" * 100),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nx-long: ", b"a" * 1000),
        (b"GET /", b"a" * 1000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"x-trailer: 1\r\n" * 100),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"extension=1;" * 100),
    ],
)
async def test_what_is_no_body_is_not_read_without_end(
    listening: Listening, endless: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEAD_TIMEOUT_S", "LINGER_S"):
        monkeypatch.setattr(server, name, 1e6)
    monkeypatch.setattr("app.http.bodies.BODY_TIMEOUT_S", 1e6)
    head, more = endless
    begun = head.replace(
        b"Host: x\r\n", b"Host: x\r\nAuthorization: Bearer " + listening.key.encode() + b"\r\n"
    )
    async with connected(listening) as connection:
        await connection.send(begun)
        async with asyncio.timeout(SOON_S):
            await connection.feed(more, 0)  # until nobody takes it


async def test_without_a_key_a_body_that_never_ends_has_its_401_at_once(listening: Listening) -> None:
    async with connected(listening) as connection, asyncio.TaskGroup() as tasks:
        await connection.send(HEAD, b"Transfer-Encoding: chunked\r\n\r\n")
        feeding = tasks.create_task(connection.feed(b"5\r\n[[],[\r\n", 0.02))
        began = time.monotonic()
        assert (await connection.head()).startswith(b"HTTP/1.1 401")
        assert time.monotonic() - began < SOON_S / 2
        await connection.answered()  # and its connection ends
        feeding.cancel()


async def test_a_body_that_never_ends_is_not_waited_for(listening: Listening) -> None:
    known = b"Authorization: Bearer " + listening.key.encode() + b"\r\n"
    async with connected(listening) as connection:
        await connection.send(HEAD, known, b"Content-Length: 1000\r\n\r\n{")
        answer = await connection.answered()
        assert answer.startswith(b"HTTP/1.1 408") and b"body_too_slow" in answer


async def test_a_long_body_that_is_refused_still_sees_why_and_the_connection_goes_on(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LINGER_S", 60.0)
    body = b"x" * 900_000
    async with connected(listening) as connection:
        for _ in range(2):
            await connection.send(HEAD, b"Content-Length: %d\r\n\r\n" % len(body))
            await connection.send(body)
            head = await connection.head()
            assert head.startswith(b"HTTP/1.1 401")
            [length] = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
            assert b"send an API key" in await connection.reader.readexactly(int(length.split(b":")[1]))


async def test_there_are_so_many_connections_and_no_more(
    sqlite: Database, sqlite_url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_TIMEOUT_S", 60.0)
    settings = Settings(home=tmp_path / "home", database_url=sqlite_url, max_connections=2)
    async with _listening(sqlite, settings) as found:
        async with connected(found) as first, connected(found) as second:
            for one in (first, second):
                await one.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await one.head()).startswith(b"HTTP/1.1 200")
            async with connected(found) as third:
                assert (await third.answered()).startswith(b"HTTP/1.1 503")
        async with asyncio.timeout(SOON_S):
            while True:  # once the others have ended
                async with connected(found) as later:
                    await later.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
                    if (await later.head()).startswith(b"HTTP/1.1 200"):
                        break


async def test_a_client_that_takes_nothing_is_not_held(listening: Listening) -> None:
    ended = asyncio.Event()

    async def much() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * (1 << 16)
                await asyncio.sleep(0)
        finally:
            ended.set()

    @listening.api.get("/much", dependencies=[Depends(no_key)])
    async def endless() -> StreamingResponse:
        return StreamingResponse(much())

    async with connected(listening) as connection:
        connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await connection.send(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(SOON_S):
            await ended.wait()


@pytest.mark.seconds
def test_a_process_of_the_api_reads_what_its_start_has_made_in_no_collection(tmp_path: Path) -> None:
    """Else each full one holds the loop for as long as all modules and routes take to be looked through."""
    code = (
        "import gc; from app.main import from_environment; from_environment(); "
        "print(gc.get_freeze_count() > 100_000, len(gc.get_objects()) < 5_000)"
    )
    environment = os.environ | {"STEERWISE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True"]
