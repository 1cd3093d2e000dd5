"""Who comes in with which key, and when a key ends."""

from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select, update

from app.auth import keys
from app.auth.principal import Scope
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.auth import ApiKey
from tests.callers import Callers

pytestmark = pytest.mark.anyio


async def changed(database: Database, key: str, **values: object) -> None:
    async with transaction(database) as session:
        await session.execute(update(ApiKey).where(ApiKey.prefix == keys.prefix_of(key)).values(**values))


async def stored(database: Database, key: str) -> ApiKey:
    async with transaction(database) as session:
        return (await session.scalars(select(ApiKey).where(ApiKey.prefix == keys.prefix_of(key)))).one()


async def asked(callers: Callers, key: str | None) -> httpx.Response:
    return await (await callers.with_key(key)).get("/v1/me")


async def test_a_key_says_whose_it_is_and_what_it_may_do(callers: Callers, scope: TenantScope) -> None:
    me = (await asked(callers, await callers.key_of(scope, Scope.classify))).json()
    assert me["key"]["tenant_id"] == str(scope.tenant_id)
    assert me["key"]["scopes"] == ["classify"]
    assert (me["tenant_name"], me["platform_admin"]) == ("one", False)
    me = (await asked(callers, await callers.key_of(None, Scope.admin))).json()
    assert (me["key"]["tenant_id"], me["tenant_name"], me["platform_admin"]) == (None, None, True)


async def test_without_a_valid_key_nobody_comes_in(callers: Callers, scope: TenantScope) -> None:
    good = await callers.key_of(scope, Scope.admin)
    for key in (None, "", "sw_", good[:-1], good.swapcase(), keys.generate().text):
        refused = await asked(callers, key)
        assert refused.status_code == 401, key
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["code"] == "unauthorized"
        assert good not in refused.text


async def test_a_right_prefix_with_another_secret_is_refused(callers: Callers, scope: TenantScope) -> None:
    good, other = await callers.key_of(scope, Scope.admin), keys.generate()
    await changed(callers.database, good, digest=other.digest)
    assert (await asked(callers, good)).status_code == 401


async def test_an_expired_key_is_refused_from_that_moment(callers: Callers, scope: TenantScope) -> None:
    key = await callers.key_of(scope, Scope.admin)
    await changed(callers.database, key, expires_at=utc_now() + timedelta(minutes=1))
    assert (await asked(callers, key)).status_code == 200
    await changed(callers.database, key, expires_at=utc_now() - timedelta(seconds=1))
    refused = await asked(callers, key)
    assert refused.status_code == 401 and "expired" in refused.json()["detail"]


async def test_last_use_is_noted_but_not_more_often_than_once_a_minute(
    callers: Callers, scope: TenantScope
) -> None:
    key = await callers.key_of(scope, Scope.admin)
    assert (await stored(callers.database, key)).last_used_at is None
    await asked(callers, key)
    first = (await stored(callers.database, key)).last_used_at
    assert first is not None and abs(utc_now() - first) < timedelta(minutes=1)
    await asked(callers, key)
    assert (await stored(callers.database, key)).last_used_at == first
    await changed(callers.database, key, last_used_at=utc_now() - timedelta(seconds=61))
    await asked(callers, key)
    again = (await stored(callers.database, key)).last_used_at
    assert again is not None and again > first


async def test_a_tenants_key_cannot_reach_another_tenant_by_naming_it(
    client: httpx.AsyncClient, scope: TenantScope, other_scope: TenantScope
) -> None:
    for tenant_id in (other_scope.tenant_id, uuid4()):
        refused = await client.get("/v1/schemas", headers={"X-Tenant": str(tenant_id)})
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    own = await client.get("/v1/schemas", headers={"X-Tenant": str(scope.tenant_id)})
    assert own.status_code == 200


async def test_an_admin_of_the_platform_names_the_tenant_that_is_meant(
    platform: httpx.AsyncClient, client: httpx.AsyncClient, scope: TenantScope, other_scope: TenantScope
) -> None:
    await client.post("/v1/schemas", json={"name": "mine"})
    missing = await platform.get("/v1/schemas")
    assert (missing.status_code, missing.json()["problems"][0]["where"]) == (422, "header.x-tenant")
    assert (await platform.get("/v1/schemas", headers={"X-Tenant": "no id"})).status_code == 422
    assert (await platform.get("/v1/schemas", headers={"X-Tenant": str(uuid4())})).status_code == 404
    for tenant, names in ((scope, ["mine"]), (other_scope, [])):
        seen = await platform.get("/v1/schemas", headers={"X-Tenant": str(tenant.tenant_id)})
        assert [schema["name"] for schema in seen.json()["items"]] == names


async def test_a_key_without_the_scope_is_told_which_one_is_missing(
    callers: Callers, scope: TenantScope
) -> None:
    reader = await callers.of(scope, Scope.classify, Scope.runs_write)
    refused = await reader.post("/v1/schemas", json={"name": "a"})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "schemas:write" in refused.json()["detail"]
    assert (await reader.get("/v1/schemas")).status_code == 403
    assert (await reader.get("/v1/runs")).status_code == 200  # to write includes to read


async def test_the_key_itself_is_stored_nowhere(
    database: Database, callers: Callers, scope: TenantScope
) -> None:
    key = await callers.key_of(scope, Scope.admin)
    row = await stored(database, key)
    secret = key.split("_")[2]
    assert isinstance(row.id, UUID)
    assert all(secret not in str(getattr(row, column.key)) for column in ApiKey.__table__.columns)
