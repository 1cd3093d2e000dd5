"""A right is asked for again while a request lasts: streams, bodies that come slowly, answers that take long."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any

import anyio
import pytest
from fastapi import Depends, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message

from app.auth import keys, repository, service
from app.auth.dependencies import tenant_scope
from app.auth.principal import Scope
from app.classify.deadline import while_wanted
from app.http.bodies import lift_body_cap
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from tests.app.auth.operations import Operation, ask
from tests.callers import Callers

pytestmark = pytest.mark.anyio
WITHIN_S = 5.0  # two checks and a slow machine
Someone = Annotated[TenantScope, Depends(tenant_scope(Scope.runs_read))]


class Planted:
    """Three operations that never end, with whether their work has been ended."""

    def __init__(self, callers: Callers):
        self.ended: list[str] = []
        api = callers.api

        @api.get("/silent-events")
        async def silent(_scope: Someone) -> StreamingResponse:
            return StreamingResponse(self.events(1e6), media_type="text/event-stream")

        @api.get("/busy-events")
        async def busy(_scope: Someone) -> StreamingResponse:
            return StreamingResponse(self.events(0.01), media_type="text/event-stream")

        @api.get("/answer")
        async def answer(_scope: Someone, request: Request) -> None:
            await while_wanted(request, self.work())

        @api.put("/upload")
        async def upload(_scope: Someone, request: Request) -> None:
            lift_body_cap(request)
            async for _block in request.stream():
                pass

    async def events(self, pause_s: float) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"event: tick\ndata: {}\n\n"
                await asyncio.sleep(pause_s)
        finally:
            self.ended.append("events")

    async def work(self) -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            self.ended.append("work")


@pytest.mark.seconds
async def test_what_lasts_ends_with_its_key(
    callers: Callers, scope: TenantScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.auth.standing.CHECK_S", 0.2)
    monkeypatch.setattr("app.infra.ttl_cache.KEPT_S", 0.2)
    planted = Planted(callers)

    async def endless() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    for method, path, receive in (
        ("GET", "/silent-events", never),
        ("GET", "/busy-events", never),
        ("GET", "/answer", never),
        ("PUT", "/upload", endless),
    ):
        key = await callers.key_of(scope, Scope.runs_read)
        operation = Operation(method, path, frozenset(), False)
        asking = asyncio.create_task(ask(callers.api, operation, receive, {"Authorization": f"Bearer {key}"}))
        await asyncio.sleep(0.6)
        assert not asking.done(), path
        await revoke(callers, scope, key)
        async with asyncio.timeout(WITHIN_S):
            answer = await asking
        if path.endswith("-events"):
            assert answer.body.rpartition(b"event: ")[2].startswith(b"problem\ndata: "), path
            assert b'"code":"unauthorized"' in answer.body and b"revoked" in answer.body
        else:
            assert answer.status == 401, path
    assert planted.ended == ["events", "events", "work"]


@pytest.mark.seconds
async def test_a_stream_whose_key_expires_ends_too(
    callers: Callers, scope: TenantScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.auth.standing.CHECK_S", 0.1)
    monkeypatch.setattr("app.infra.ttl_cache.KEPT_S", 0.1)
    planted = Planted(callers)
    async with transaction(callers.database) as session:
        order = service.KeyOrder("short", [Scope.runs_read], utc_now() + timedelta(seconds=1.5))
        key = (await service.create(session, None, scope.tenant_id, order)).text

    with anyio.fail_after(10):
        events = Operation("GET", "/busy-events", frozenset(), False)
        answer = await ask(callers.api, events, never, {"Authorization": f"Bearer {key}"})
    assert b"expired" in answer.body and planted.ended == ["events"]


@pytest.mark.seconds
async def test_many_streams_of_a_key_ask_the_database_once_a_while_between_them(
    callers: Callers, scope: TenantScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.auth.standing.CHECK_S", 0.2)
    looks = 0
    look = service.check_standing

    async def counted(*given: Any) -> None:
        nonlocal looks
        looks += 1
        await look(*given)

    monkeypatch.setattr(service, "check_standing", counted)
    Planted(callers)
    key = await callers.key_of(scope, Scope.runs_read)
    events = Operation("GET", "/busy-events", frozenset(), False)

    began = time.monotonic()
    with anyio.move_on_after(6):
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ask, callers.api, events, never, {"Authorization": f"Bearer {key}"})
    assert 1 <= looks <= time.monotonic() - began + 1  # remembered for a second


async def never() -> Message:
    await asyncio.sleep(1e6)
    raise AssertionError


async def revoke(callers: Callers, scope: TenantScope, key: str) -> None:
    async with transaction(callers.database) as session:
        row = await repository.find(session, str(keys.prefix_of(key)))
        assert row is not None
        await service.revoke(session, None, scope.tenant_id, row.id)
