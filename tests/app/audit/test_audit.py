"""The audit trail: read by admins, of their own tenant only, page by page."""

import httpx
import pytest

from app.auth.principal import Scope
from app.infra.db.scope import TenantScope
from tests.callers import Callers

pytestmark = pytest.mark.anyio


async def test_an_admin_reads_who_did_what_newest_first_and_in_pages(
    client: httpx.AsyncClient, other_client: httpx.AsyncClient
) -> None:
    for name in ("a", "b", "c"):
        await client.post("/v1/schemas", json={"name": name})
    await other_client.post("/v1/schemas", json={"name": "theirs"})
    first = (await client.get("/v1/audit", params={"limit": 2})).json()
    assert [event["detail"]["name"] for event in first["items"]] == ["c", "b"]
    rest = (await client.get("/v1/audit", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert rest["items"][0]["detail"]["name"] == "a"
    seen = first["items"] + rest["items"]
    assert "theirs" not in str(seen)
    (created, *_) = seen
    assert created["action"] == "schema.created" and created["subject"].startswith("schema:")
    me = (await client.get("/v1/me")).json()
    assert created["actor_key_id"] == me["key"]["id"]


async def test_events_are_found_by_what_was_done_and_to_what(client: httpx.AsyncClient) -> None:
    made = [(await client.post("/v1/schemas", json={"name": name})).json() for name in ("a", "b")]
    subject = f"schema:{made[0]['id']}"
    found = (await client.get("/v1/audit", params={"subject": subject})).json()["items"]
    assert [event["subject"] for event in found] == [subject]
    named = (await client.get("/v1/audit", params={"action": "schema.created"})).json()["items"]
    assert [event["detail"]["name"] for event in named] == ["b", "a"]
    assert (await client.get("/v1/audit", params={"action": "never.done"})).json()["items"] == []


async def test_the_platform_has_a_trail_of_its_own(
    platform: httpx.AsyncClient, client: httpx.AsyncClient, scope: TenantScope
) -> None:
    await client.post("/v1/schemas", json={"name": "a"})
    own = (await platform.get("/v1/audit")).json()["items"]
    assert own and {event["action"] for event in own} == {"api_key.created"}
    header = {"X-Tenant": str(scope.tenant_id)}
    theirs = (await platform.get("/v1/audit", headers=header)).json()["items"]
    assert theirs[0]["action"] == "schema.created"


async def test_only_admins_read_it(callers: Callers, scope: TenantScope) -> None:
    editor = await callers.of(scope, Scope.schemas_write, Scope.classify)
    assert (await editor.get("/v1/audit")).status_code == 403
