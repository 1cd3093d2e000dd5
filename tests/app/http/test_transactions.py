"""One transaction a request, and it is over before the client hears anything."""

from typing import Annotated

import httpx
import pytest
from fastapi import Depends
from sqlalchemy import Connection, event, select
from starlette.types import Message, Receive, Scope, Send

from app.auth.access import no_key
from app.auth.dependencies import tenant_scope
from app.auth.principal import Scope as KeyScope
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import Session, transaction
from app.infra.tables.records import AuditEvent
from app.infra.tables.schemas import Schema
from tests.callers import Callers

pytestmark = pytest.mark.anyio


async def names(database: Database) -> list[str]:
    async with transaction(database) as session:
        return list(await session.scalars(select(Schema.name)))


async def test_a_commit_that_fails_is_an_error_and_not_a_success_that_never_happened(
    client: httpx.AsyncClient, database: Database
) -> None:
    await client.get("/v1/me")  # the key's last use is noted in a transaction of its own, which may pass

    def broken(connection: Connection) -> None:
        if not connection.get_execution_options().get("read_only"):
            raise RuntimeError("the disk went away")

    event.listen(database.engine.sync_engine, "commit", broken)
    failed = await client.post("/v1/schemas", json={"name": "a"})
    event.remove(database.engine.sync_engine, "commit", broken)
    assert (failed.status_code, failed.json()["code"]) == (500, "internal")
    assert failed.headers["content-type"] == "application/problem+json"
    assert "disk" not in failed.text and failed.json()["request_id"] == failed.headers["x-request-id"]
    assert await names(database) == []
    assert (await client.post("/v1/schemas", json={"name": "a"})).status_code == 201


async def test_the_commit_comes_before_the_first_byte_of_the_answer(
    client: httpx.AsyncClient, callers: Callers
) -> None:
    await client.get("/v1/me")
    seen: list[str] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            seen.append(message["type"])
            await send(message)

        await callers.api(scope, receive, noting)

    def committed(_connection: Connection) -> None:
        seen.append("commit")

    event.listen(callers.database.engine.sync_engine, "commit", committed)
    transport = httpx.ASGITransport(watched)
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=client.headers) as other:
        await other.post("/v1/schemas", json={"name": "a"})
    event.remove(callers.database.engine.sync_engine, "commit", committed)
    assert seen[-3:] == ["commit", "http.response.start", "http.response.body"]
    assert "http.response.start" not in seen[:-2]


async def test_what_an_endpoint_did_before_it_failed_is_undone(
    client: httpx.AsyncClient, database: Database, scope: TenantScope
) -> None:
    await client.post("/v1/schemas", json={"name": "a"})
    async with transaction(database) as session:
        before = len((await session.scalars(select(AuditEvent))).all())
    assert (await client.post("/v1/schemas", json={"name": "a"})).status_code == 409
    async with transaction(database) as session:
        assert len((await session.scalars(select(AuditEvent))).all()) == before
    assert await names(database) == ["a"]


async def test_a_get_cannot_write(client: httpx.AsyncClient, callers: Callers, scope: TenantScope) -> None:
    @callers.api.get("/careless")
    async def careless(
        tenant: Annotated[TenantScope, Depends(tenant_scope(KeyScope.schemas_read))], session: Session
    ) -> None:
        session.add(Schema(tenant_id=tenant.tenant_id, name="from a GET", draft={}))

    assert (await client.get("/careless")).status_code >= 500
    assert await names(callers.database) == []


async def test_a_session_that_was_shown_nothing_sees_nothing(callers: Callers, scope: TenantScope) -> None:
    @callers.api.get("/forgetful", dependencies=[Depends(no_key)])
    async def forgetful(session: Session) -> list[str]:
        return list(await session.scalars(select(Schema.name)))

    async with transaction(callers.database) as session:
        session.add(Schema(tenant_id=scope.tenant_id, name="hidden", draft={}))
    answer = await (await callers.anonymous()).get("/forgetful")
    assert "hidden" not in answer.text
