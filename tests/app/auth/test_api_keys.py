"""Keys are made, listed, replaced and revoked over the API."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select

from app.auth.principal import Scope
from app.auth.service import MAX_LINE
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.records import AuditEvent
from tests.callers import Callers

pytestmark = pytest.mark.anyio


async def made(client: httpx.AsyncClient, name: str = "router", **fields: Any) -> dict[str, Any]:
    answer = await client.post("/v1/api-keys", json={"name": name, "scopes": ["classify"]} | fields)
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def status(callers: Callers, key: str) -> int:
    return (await (await callers.with_key(key)).get("/v1/me")).status_code


async def test_a_new_key_is_shown_once_and_opens_the_door(
    client: httpx.AsyncClient, callers: Callers
) -> None:
    key = await made(client)
    assert await status(callers, key["key"]) == 200
    listed = (await client.get("/v1/api-keys")).json()["items"]
    [seen] = [entry for entry in listed if entry["id"] == key["id"]]
    assert "key" not in seen and key["key"] not in str(listed)
    assert seen["prefix"] == key["prefix"] == key["key"].split("_")[1]


async def test_a_key_is_replaced_without_a_gap(client: httpx.AsyncClient, callers: Callers) -> None:
    """Two live keys of one name: the old one serves until every client has the new one."""
    old, new = await made(client), await made(client)
    refused = await client.post("/v1/api-keys", json={"name": "router", "scopes": ["classify"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_keys")
    assert [await status(callers, key["key"]) for key in (old, new)] == [200, 200]
    assert (await client.post(f"/v1/api-keys/{old['id']}/revoke")).status_code == 200
    assert [await status(callers, key["key"]) for key in (old, new)] == [401, 200]
    await made(client)


async def test_several_requests_at_once_still_make_two_keys_of_a_name(
    client: httpx.AsyncClient, platform: httpx.AsyncClient
) -> None:
    for admin, scopes in ((client, ["classify"]), (platform, ["admin"])):
        body = {"name": "rush", "scopes": scopes}
        answers = await asyncio.gather(*[admin.post("/v1/api-keys", json=body) for _ in range(4)])
        assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409]


async def test_a_revoked_key_says_so_to_its_holder_and_stays_revoked(
    client: httpx.AsyncClient, callers: Callers
) -> None:
    key = await made(client)
    first = (await client.post(f"/v1/api-keys/{key['id']}/revoke")).json()
    again = (await client.post(f"/v1/api-keys/{key['id']}/revoke")).json()
    assert first["revoked_at"] is not None and again["revoked_at"] == first["revoked_at"]
    refused = await (await callers.with_key(key["key"])).get("/v1/me")
    assert refused.status_code == 401 and "revoked" in refused.json()["detail"]


async def test_an_expired_key_makes_room_for_another_of_its_name(client: httpx.AsyncClient) -> None:
    for wrong in (utc_now() - timedelta(seconds=1), utc_now() + timedelta(days=9999)):
        body = {"name": "router", "scopes": [], "expires_at": wrong.isoformat()}
        refused = await client.post("/v1/api-keys", json=body)
        assert (refused.status_code, refused.json()["problems"][0]["where"]) == (422, "body.expires_at")
    for text in ("2026-01-01T00:00:00", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"):
        body = {"name": "router", "scopes": [], "expires_at": text}
        assert (await client.post("/v1/api-keys", json=body)).status_code == 422, text
    soon = await made(client, expires_at=(utc_now() + timedelta(hours=1)).isoformat())
    assert soon["expires_at"].endswith("Z")


async def test_keys_of_another_tenant_do_not_exist(
    client: httpx.AsyncClient, other_client: httpx.AsyncClient
) -> None:
    key = await made(client)
    for key_id in (key["id"], uuid4()):
        refused = await other_client.post(f"/v1/api-keys/{key_id}/revoke")
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert key["id"] not in (await other_client.get("/v1/api-keys")).text


async def test_only_an_admin_makes_keys(callers: Callers, scope: TenantScope) -> None:
    everything_else = [one for one in Scope if one is not Scope.admin]
    editor = await callers.of(scope, *everything_else)
    for answer in (
        await editor.post("/v1/api-keys", json={"name": "more", "scopes": ["admin"]}),
        await editor.get("/v1/api-keys"),
        await editor.post(f"/v1/api-keys/{uuid4()}/revoke"),
    ):
        assert answer.status_code == 403


async def test_the_platform_makes_a_tenants_first_key_and_its_own(
    platform: httpx.AsyncClient, callers: Callers, scope: TenantScope
) -> None:
    first = await platform.post(
        "/v1/api-keys",
        json={"name": "first", "scopes": ["admin"]},
        headers={"X-Tenant": str(scope.tenant_id)},
    )
    assert first.json()["tenant_id"] == str(scope.tenant_id)
    assert await status(callers, first.json()["key"]) == 200
    own = await made(platform, "second admin", scopes=["admin"])
    assert own["tenant_id"] is None
    refused = await platform.post("/v1/api-keys", json={"name": "odd", "scopes": ["classify"]})
    assert (refused.status_code, refused.json()["problems"][0]["where"]) == (422, "body.scopes")
    assert {key["tenant_id"] for key in (await platform.get("/v1/api-keys")).json()["items"]} == {None}


async def test_what_was_done_to_keys_is_written_down_without_the_key(
    client: httpx.AsyncClient, callers: Callers, scope: TenantScope
) -> None:
    key = await made(client)
    await client.post(f"/v1/api-keys/{key['id']}/revoke")
    actor = (await client.get("/v1/me")).json()["key"]["id"]
    async with transaction(callers.database, scope) as session:
        rows = await session.scalars(select(AuditEvent).where(AuditEvent.subject == f"api_key:{key['id']}"))
        events = sorted(rows, key=lambda event: event.at)
    assert [event.action for event in events] == ["api_key.created", "api_key.revoked"]
    assert {str(event.actor_key_id) for event in events} == {actor}
    assert key["key"].split("_")[2] not in str([event.detail for event in events])


async def test_a_list_of_keys_comes_in_pages_newest_first(client: httpx.AsyncClient) -> None:
    names = [(await made(client, f"key {number}"))["name"] for number in range(4)]
    first = (await client.get("/v1/api-keys", params={"limit": 2})).json()
    assert [key["name"] for key in first["items"]] == names[:1:-1]
    second = (await client.get("/v1/api-keys", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [key["name"] for key in second["items"]] == names[1::-1]
    for limit in (0, 201, "many"):
        assert (await client.get("/v1/api-keys", params={"limit": limit})).status_code == 422
    refused = await client.get("/v1/schemas", params={"cursor": first["next_cursor"]})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_cursor")


async def test_a_key_ends_no_later_than_the_one_that_made_it(
    client: httpx.AsyncClient, callers: Callers, scope: TenantScope
) -> None:
    end = utc_now() + timedelta(seconds=60)
    short = await callers.with_key(
        (await made(client, "short", scopes=["admin"], expires_at=end.isoformat()))["key"]
    )
    child = await made(short, "child")
    assert child["expires_at"] == end.isoformat().replace("+00:00", "Z")
    later = {"name": "longer", "scopes": ["admin"], "expires_at": (end + timedelta(seconds=1)).isoformat()}
    refused = await short.post("/v1/api-keys", json=later)
    assert (refused.status_code, refused.json()["problems"][0]["where"]) == (422, "body.expires_at")
    assert "when the key that makes it ends" in refused.json()["detail"]


async def test_a_key_ends_with_the_one_that_made_it_and_so_on(
    client: httpx.AsyncClient, callers: Callers
) -> None:
    stolen = await made(client, "stolen", scopes=["admin"])
    child = await made(await callers.with_key(stolen["key"]), "child", scopes=["admin"])
    grandchild = await made(await callers.with_key(child["key"]), "grandchild")
    assert (child["parent_id"], grandchild["parent_id"]) == (stolen["id"], child["id"])
    assert await status(callers, grandchild["key"]) == 200
    await client.post(f"/v1/api-keys/{stolen['id']}/revoke")
    assert [await status(callers, key["key"]) for key in (stolen, child, grandchild)] == [401, 401, 401]
    listed = {key["id"]: key for key in (await client.get("/v1/api-keys")).json()["items"]}
    assert all(listed[key["id"]]["revoked_at"] is not None for key in (stolen, child, grandchild))


async def test_a_tenants_key_ends_with_the_platforms_that_made_it(
    platform: httpx.AsyncClient, callers: Callers, scope: TenantScope
) -> None:
    lent = await made(platform, "lent", scopes=["admin"])
    header = {"X-Tenant": str(scope.tenant_id)}
    borrower = await callers.with_key(lent["key"])
    made_there = await borrower.post(
        "/v1/api-keys", json={"name": "there", "scopes": ["admin"]}, headers=header
    )
    child = made_there.json()
    assert await status(callers, child["key"]) == 200
    await platform.post(f"/v1/api-keys/{lent['id']}/revoke")
    assert await status(callers, child["key"]) == 401


async def test_children_may_be_kept_by_whoever_was_not_made_with_the_key(
    client: httpx.AsyncClient, callers: Callers
) -> None:
    """Else a key could not be replaced; and whoever stole it could keep what they made with it."""
    old = await made(client, "old", scopes=["admin"])
    thief = await callers.with_key(old["key"])
    child = await made(thief, "child", scopes=["admin"])
    keep = {"keep_children": True}
    for own in (thief, await callers.with_key(child["key"])):
        refused = await own.post(f"/v1/api-keys/{old['id']}/revoke", params=keep)
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert (await client.post(f"/v1/api-keys/{old['id']}/revoke", params=keep)).status_code == 200
    assert [await status(callers, key["key"]) for key in (old, child)] == [401, 200]
    actor = (await client.get("/v1/me")).json()["key"]["id"]
    [kept] = [key for key in (await client.get("/v1/api-keys")).json()["items"] if key["id"] == child["id"]]
    assert kept["parent_id"] == actor


async def test_a_line_of_keys_that_made_one_another_has_an_end(
    client: httpx.AsyncClient, callers: Callers
) -> None:
    """Each of them is looked up whenever the last is used."""
    last = client
    for number in range(MAX_LINE - 1):
        last = await callers.with_key((await made(last, f"key {number}", scopes=["admin"]))["key"])
    refused = await last.post("/v1/api-keys", json={"name": "one more", "scopes": ["classify"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "line_too_long")
