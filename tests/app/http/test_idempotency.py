"""A POST that is sent again is done once, and its answer is repeated."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated
from uuid import uuid4

import anyio
import httpx
import pytest
from fastapi import Depends
from sqlalchemy import select, update

from app.auth.principal import Scope
from app.errors import Conflict
from app.http.idempotency.reservation import GIVEN_UP_AFTER, KEPT_FOR, Once, once
from app.http.payload import ResponseBody
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import Session, transaction
from app.infra.tables.records import IdempotencyKey
from app.infra.tables.schemas import Schema
from tests.callers import Callers

pytestmark = pytest.mark.anyio
KEY = {"Idempotency-Key": "order-1"}


class Made(ResponseBody):
    name: str


class Gates:
    """Lets a test stand in the middle of a request."""

    def __init__(self) -> None:
        self.inside, self.go_on = anyio.Event(), anyio.Event()


async def rows(
    database: Database, kind: type[Schema] | type[IdempotencyKey]
) -> Sequence[Schema | IdempotencyKey]:
    async with transaction(database) as session:
        return (await session.scalars(select(kind))).all()


async def grown_old(database: Database, by: timedelta) -> None:
    async with transaction(database) as session:
        await session.execute(update(IdempotencyKey).values(created_at=utc_now() - by))


def add_slow_endpoint(callers: Callers) -> Gates:
    gates = Gates()

    @callers.api.post("/slow")
    async def slow(
        session: Session, request_once: Annotated[Once, Depends(once(Scope.schemas_write))]
    ) -> Made:
        session.add(Schema(tenant_id=request_once.scope.tenant_id, name=f"made {uuid4()}", draft={}))
        gates.inside.set()
        await gates.go_on.wait()  # before the first query: SQLite has one writer at a time
        return await request_once.keep(session, 200, Made(name="made slowly"))

    return gates


async def test_the_same_request_again_gets_the_same_answer_and_does_nothing(
    client: httpx.AsyncClient, database: Database
) -> None:
    first = await client.post("/v1/schemas", json={"name": "a"}, headers=KEY)
    again = await client.post("/v1/schemas", json={"name": "a"}, headers=KEY)
    assert (again.status_code, again.json()) == (first.status_code, first.json()) == (201, first.json())
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    assert len(await rows(database, Schema)) == 1


async def test_the_key_with_another_body_is_refused(client: httpx.AsyncClient) -> None:
    await client.post("/v1/schemas", json={"name": "a"}, headers=KEY)
    refused = await client.post("/v1/schemas", json={"name": "b"}, headers=KEY)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")


async def test_another_key_another_tenant_or_no_key_is_another_request(
    client: httpx.AsyncClient, other_client: httpx.AsyncClient
) -> None:
    body = {"name": "a"}
    assert (await client.post("/v1/schemas", json=body, headers=KEY)).status_code == 201
    for answer in (
        await client.post("/v1/schemas", json=body, headers={"Idempotency-Key": "order-2"}),
        await client.post("/v1/schemas", json=body),
    ):
        assert answer.json()["code"] == "name_taken"
    assert (await other_client.post("/v1/schemas", json=body, headers=KEY)).status_code == 201


async def test_a_second_request_while_the_first_is_under_way_is_told_to_wait(
    callers: Callers, client: httpx.AsyncClient
) -> None:
    gates, answers = add_slow_endpoint(callers), []

    async def ask() -> None:
        answers.append(await client.post("/slow", headers=KEY))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await gates.inside.wait()
        refused = await client.post("/slow", headers=KEY)
        assert (refused.status_code, refused.json()["code"]) == (409, "request_in_flight")
        assert int(refused.headers["retry-after"]) >= 1
        gates.go_on.set()
    assert answers[0].status_code == 200
    assert (await client.post("/slow", headers=KEY)).json() == answers[0].json()
    assert len(await rows(callers.database, Schema)) == 1


async def test_a_request_that_failed_gives_its_key_back(callers: Callers, client: httpx.AsyncClient) -> None:
    outcomes = iter([Conflict("not now"), RuntimeError("broken"), None])

    @callers.api.post("/unsure")
    async def unsure(session: Session, request_once: Annotated[Once, Depends(once())]) -> Made:
        made = await request_once.keep(session, 200, Made(name="done"))
        if outcome := next(outcomes):
            raise outcome
        return made

    assert [(await client.post("/unsure", headers=KEY)).status_code for _ in range(4)] == [409, 500, 200, 200]


async def test_invalid_bodies_and_missing_scopes_do_not_use_a_key_up(
    callers: Callers, client: httpx.AsyncClient, scope: TenantScope
) -> None:
    assert (await client.post("/v1/schemas", json={"name": ""}, headers=KEY)).status_code == 422
    reader = await callers.of(scope, Scope.classify)
    assert (await reader.post("/v1/schemas", json={"name": "a"}, headers=KEY)).status_code == 403
    assert await rows(callers.database, IdempotencyKey) == []
    assert (await client.post("/v1/schemas", json={"name": "a"}, headers=KEY)).status_code == 201
    # Nor is a kept answer shown to a key that could not have asked for it.
    assert (await reader.post("/v1/schemas", json={"name": "a"}, headers=KEY)).status_code == 403


async def test_a_reservation_whose_process_died_is_taken_over_and_its_late_work_undone(
    callers: Callers, client: httpx.AsyncClient
) -> None:
    gates, answers = add_slow_endpoint(callers), []

    async def ask() -> None:
        answers.append(await client.post("/slow", headers=KEY))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await gates.inside.wait()
        await grown_old(callers.database, GIVEN_UP_AFTER + timedelta(seconds=1))
        tasks.start_soon(ask)  # takes the reservation over, and waits like the first
        with anyio.fail_after(30):
            while (await rows(callers.database, IdempotencyKey))[0].created_at < utc_now() - GIVEN_UP_AFTER:
                await anyio.sleep(0.02)
        gates.go_on.set()
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert len(await rows(callers.database, Schema)) == 1


async def test_an_answer_is_repeated_for_a_day_and_then_forgotten(
    client: httpx.AsyncClient, database: Database
) -> None:
    body = {"name": "a"}
    first = await client.post("/v1/schemas", json=body, headers=KEY)
    await grown_old(database, KEPT_FOR - timedelta(minutes=1))
    assert (await client.post("/v1/schemas", json=body, headers=KEY)).json() == first.json()
    await grown_old(database, KEPT_FOR + timedelta(minutes=1))
    assert (await client.post("/v1/schemas", json=body, headers=KEY)).json()["code"] == "name_taken"


@pytest.mark.parametrize("key", ["", "a b", "x" * 201, "é".encode("latin-1")])
async def test_a_key_that_cannot_be_one_is_refused(key: str | bytes, client: httpx.AsyncClient) -> None:
    refused = await client.post("/v1/schemas", json={"name": "a"}, headers={"Idempotency-Key": key})
    assert (refused.status_code, refused.json()["problems"][0]["where"]) == (422, "header.Idempotency-Key")
