"""Every operation that changes something is in the audit trail, because it says so and not because its code does."""

from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request

from app.audit import operations, service
from app.audit.service import Act
from app.auth import keys, refusals
from app.auth.access import no_key
from app.auth.principal import Scope
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.settings import Settings
from tests.callers import Callers

pytestmark = pytest.mark.anyio
DRAFT: dict[str, Any] = {
    "none_of_these": True,
    "categories": [
        {"key": "refund", "name": "Refund", "definition": "Wants money back."},
        {"key": "delivery", "name": "Delivery", "definition": "Asks where an order is."},
    ],
}


async def trail(client: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/v1/audit", params=query)).json()["items"]
    return found


def undeclared(api: FastAPI) -> list[str]:
    changing = [
        route.operation_id or route.path
        for route in api.routes
        if isinstance(route, APIRoute) and not route.methods <= {"GET", "HEAD"}
    ]
    return [name for name in changing if name not in {*operations.ACTIONS, *operations.NOT_RECORDED}]


async def test_every_operation_that_changes_something_declares_an_action(callers: Callers) -> None:
    assert undeclared(callers.api) == []
    new = callers.api.post("/v1/new-thing", operation_id="make_new_thing", dependencies=[Depends(no_key)])
    new(lambda: None)
    assert undeclared(callers.api) == ["make_new_thing"]


async def test_what_no_code_thinks_of_is_recorded(client: httpx.AsyncClient) -> None:
    schema = (await client.post("/v1/schemas", json={"name": "orders", "draft": DRAFT})).json()["id"]
    tag = {"If-Match": (await client.get(f"/v1/schemas/{schema}/draft")).headers["etag"]}
    changed = await client.put(f"/v1/schemas/{schema}/draft", json=DRAFT, headers=tag)
    assert changed.status_code == 200
    await client.post(f"/v1/schemas/{schema}/publish")
    body = {"name": "chats", "schema_id": schema}
    dataset = (await client.post("/v1/datasets", json=body)).json()["id"]
    row = {"id": "1", "messages": [{"role": "customer", "text": "my zebra never came"}]}
    made = (await client.post(f"/v1/datasets/{dataset}/conversations", json=row)).json()
    version = (await client.get(f"/v1/schemas/{schema}/versions")).json()["items"][0]["id"]
    label = {"category_key": "delivery", "schema_version_id": version, "source": "reviewer"}
    labelled = await client.put(f"/v1/conversations/{made['id']}/label", json=label)
    assert labelled.status_code == 200, labelled.text
    events = await trail(client)
    found = {event["action"]: event["subject"] for event in events}
    assert found["schema.draft_changed"] == f"schema:{schema}"
    assert found["conversation.appended"] == f"dataset:{dataset}"
    assert found["conversation.labelled"] == f"conversation:{made['id']}"
    assert "zebra" not in str(events)
    key = (await client.get("/v1/me")).json()["key"]["id"]
    assert {event["actor_key_id"] for event in events if event["action"] != "api_key.created"} == {key}


async def test_what_was_refused_or_rolled_back_was_not_done(client: httpx.AsyncClient) -> None:
    await client.post("/v1/schemas", json={"name": "orders", "draft": DRAFT})
    again = await client.post("/v1/schemas", json={"name": "orders", "draft": DRAFT})
    assert again.status_code == 409
    assert len(await trail(client, action="schema.created")) == 1


async def test_an_operation_whose_code_records_something_else_is_our_mistake(
    callers: Callers, scope: TenantScope
) -> None:
    class Caller:
        key_id, is_platform_admin = None, False

    class Route:
        operation_id, path = "create_schema", "/v1/schemas"

    request = Request({"type": "http", "method": "POST", "route": Route(), "path_params": {}, "headers": []})
    request.state.caller = Caller()
    async with transaction(callers.database, scope) as session:
        service.record(session, None, scope.tenant_id, Act("schema.published", "schema:1"))
        with pytest.raises(operations.Undeclared):
            await operations.record(request, session)


async def test_what_an_admin_of_the_platform_reads_is_in_the_trail_of_whose_it_is(
    platform: httpx.AsyncClient, client: httpx.AsyncClient, scope: TenantScope
) -> None:
    schema = (await client.post("/v1/schemas", json={"name": "orders", "draft": DRAFT})).json()["id"]
    await client.get(f"/v1/schemas/{schema}")
    assert await trail(client, action="platform.read") == []
    await platform.get(f"/v1/schemas/{schema}", headers={"X-Tenant": str(scope.tenant_id)})
    await platform.get(f"/v1/tenants/{scope.tenant_id}")
    read = await trail(client, action="platform.read")
    assert [event["detail"]["operation"] for event in read] == ["get_tenant", "get_schema"]
    assert read[1]["subject"] == f"schema:{schema}"


async def test_keys_that_are_refused_are_counted_and_not_written_one_by_one(
    callers: Callers, client: httpx.AsyncClient, platform: httpx.AsyncClient, settings: Settings
) -> None:
    made = (await client.post("/v1/api-keys", json={"name": "old", "scopes": ["classify"]})).json()
    await client.post(f"/v1/api-keys/{made['id']}/revoke")
    stranger = await callers.with_key(keys.generate().text)
    revoked = await callers.with_key(made["key"])
    for _ in range(7):
        assert (await stranger.get("/v1/me")).status_code == 401
    for _ in range(3):
        assert (await revoked.get("/v1/me")).status_code == 401
    assert await trail(client, action=refusals.ACTION) == []
    await callers.api.state.refused_keys.flush()
    (own,) = await trail(client, action=refusals.ACTION)
    assert own["detail"] == {"count": 3, "reasons": {"revoked": 3}, "prefixes": [made["prefix"]]}
    (strangers,) = await trail(platform, action=refusals.ACTION)
    assert strangers["detail"] == {"count": 7, "reasons": {"unknown": 7}, "prefixes": []}
    await callers.api.state.refused_keys.flush()
    assert len(await trail(client, action=refusals.ACTION)) == 1


async def test_a_key_that_may_only_classify_leaves_no_trail(callers: Callers, scope: TenantScope) -> None:
    only = await callers.of(scope, Scope.classify)
    await only.get("/v1/me")
    admin = await callers.of(scope, Scope.admin)
    assert {event["action"] for event in await trail(admin)} == {"api_key.created"}
