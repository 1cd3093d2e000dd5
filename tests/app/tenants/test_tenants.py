"""Tenants: made by the platform, set up by themselves, invisible to each other."""

from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select

from app.auth.principal import Scope
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.records import AuditEvent
from app.infra.tables.tenants import DEFAULT_QUOTA_BYTES
from tests.callers import Callers

pytestmark = pytest.mark.anyio


async def test_a_tenant_begins_with_careful_settings(platform: httpx.AsyncClient) -> None:
    made = await platform.post("/v1/tenants", json={"name": "Blue Lake"})
    assert made.status_code == 201
    tenant = made.json()
    assert tenant["serve_edits"] == "after_gate"
    assert tenant["abstain_below"] is None
    assert tenant["upload_quota_bytes"] == DEFAULT_QUOTA_BYTES
    assert (await platform.get(f"/v1/tenants/{tenant['id']}")).json() == tenant


async def test_two_tenants_cannot_have_one_name(platform: httpx.AsyncClient) -> None:
    assert (await platform.post("/v1/tenants", json={"name": "Blue Lake"})).status_code == 201
    refused = await platform.post("/v1/tenants", json={"name": " Blue Lake "})
    assert (refused.status_code, refused.json()["code"]) == (409, "name_taken")


async def test_tenants_are_listed_for_the_platform_alone(
    platform: httpx.AsyncClient, client: httpx.AsyncClient, scope: TenantScope, other_scope: TenantScope
) -> None:
    seen = {tenant["id"] for tenant in (await platform.get("/v1/tenants")).json()["items"]}
    assert seen == {str(scope.tenant_id), str(other_scope.tenant_id)}
    assert (await client.get("/v1/tenants")).status_code == 403
    assert (await client.post("/v1/tenants", json={"name": "mine"})).status_code == 403


async def test_a_tenant_sees_itself_and_nobody_else(
    client: httpx.AsyncClient, scope: TenantScope, other_scope: TenantScope
) -> None:
    assert (await client.get(f"/v1/tenants/{scope.tenant_id}")).json()["name"] == "one"
    for tenant_id in (other_scope.tenant_id, uuid4()):
        for answer in (
            await client.get(f"/v1/tenants/{tenant_id}"),
            await client.patch(f"/v1/tenants/{tenant_id}", json={"abstain_below": 0.5}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_an_admin_changes_settings_and_what_is_left_out_stays(
    client: httpx.AsyncClient, callers: Callers, scope: TenantScope
) -> None:
    place = f"/v1/tenants/{scope.tenant_id}"
    await client.patch(place, json={"serve_edits": "at_once"})
    changed = await client.patch(place, json={"abstain_below": 0.25})
    assert changed.status_code == 200
    assert (changed.json()["serve_edits"], changed.json()["abstain_below"]) == ("at_once", 0.25)
    await client.patch(place, json={"abstain_below": None})
    assert (await client.get(place)).json()["abstain_below"] is None
    async with transaction(callers.database, scope) as session:
        rows = await session.scalars(select(AuditEvent).where(AuditEvent.action == "tenant.changed"))
        details = sorted((event.detail for event in rows), key=str)
    assert details == [{"abstain_below": 0.25}, {"abstain_below": None}, {"serve_edits": "at_once"}]


async def test_the_quota_is_the_platforms_to_change(
    client: httpx.AsyncClient, platform: httpx.AsyncClient, scope: TenantScope
) -> None:
    place = f"/v1/tenants/{scope.tenant_id}"
    assert (await client.patch(place, json={"upload_quota_bytes": 1 << 40})).status_code == 403
    changed = await platform.patch(place, json={"upload_quota_bytes": 1 << 40})
    assert changed.json()["upload_quota_bytes"] == 1 << 40
    assert (await client.get(place)).json()["upload_quota_bytes"] == 1 << 40
    missing = await platform.patch(f"/v1/tenants/{uuid4()}", json={"upload_quota_bytes": 1})
    assert missing.status_code == 404


async def test_a_key_without_admin_changes_nothing(callers: Callers, scope: TenantScope) -> None:
    editor = await callers.of(scope, Scope.schemas_write, Scope.tenant_read)
    refused = await editor.patch(f"/v1/tenants/{scope.tenant_id}", json={"abstain_below": 0.5})
    assert refused.status_code == 403
    assert (await editor.get(f"/v1/tenants/{scope.tenant_id}")).json()["abstain_below"] is None


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"abstain_below": 1.5}, "body.abstain_below"),
        ({"abstain_below": -0.1}, "body.abstain_below"),
        ({"serve_edits": "never"}, "body.serve_edits"),
        ({"serve_edits": None}, "body.serve_edits"),
        ({"colour": "red"}, "body.colour"),
        ({"upload_quota_bytes": 1 << 60}, "body.upload_quota_bytes"),
        ({}, "body"),
        ([], "body"),
    ],
)
async def test_settings_that_cannot_be_are_named(
    body: Any, where: str, platform: httpx.AsyncClient, scope: TenantScope
) -> None:
    refused = await platform.patch(f"/v1/tenants/{scope.tenant_id}", json=body)
    assert (refused.status_code, refused.json()["problems"][0]["where"]) == (422, where)


@pytest.mark.parametrize("name", ["", "   ", "x" * 101, "a\nb", "a\x00b", 7, None])
async def test_a_name_that_cannot_be_is_refused(name: Any, platform: httpx.AsyncClient) -> None:
    assert (await platform.post("/v1/tenants", json={"name": name})).status_code == 422
