"""A tenant goes with everything, but for the audit trail and the row that it names; nothing of another's is touched."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select, update

from app.auth.principal import Scope
from app.erasure import repository, tasks
from app.infra.db.clock import now
from app.infra.db.session import transaction
from app.infra.tables.all import METADATA
from app.infra.tables.tenants import Tenant
from tests.app.erasure import searching
from tests.app.erasure.steps import WORD, lines, swept, trained, upload
from tests.app.runs.conftest import Shop
from tests.factories.rows import all_that_follows, save, story

pytestmark = pytest.mark.anyio
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def rows_of(shop: Shop, tenant_id: object) -> dict[str, int]:
    """Of each table that has some."""
    found = {}
    async with transaction(shop.database) as session:
        for table in METADATA.sorted_tables:
            if "tenant_id" in table.c:
                query = select(func.count()).select_from(table).where(table.c.tenant_id == tenant_id)
                found[table.name] = await session.scalar(query) or 0
    return {name: count for name, count in found.items() if count}


@pytest.mark.seconds
async def test_everything_that_a_tenant_owns_goes(
    shop: Shop, platform: httpx.AsyncClient, tmp_path: Path
) -> None:
    await trained(shop, await upload(shop, lines()))
    other = story()
    async with transaction(shop.database) as session:
        await save(session, *other)
        await save(session, *all_that_follows(other))
    kept = await rows_of(shop, other.tenant.id)
    path = f"/v1/tenants/{shop.scope.tenant_id}"
    assert (await shop.client.delete(path)).status_code == 403
    gone = await platform.delete(path)
    assert gone.status_code == 202, gone.text
    assert (await shop.client.get("/v1/me")).status_code == 401
    assert (await platform.get(path)).status_code == 404
    assert (await platform.delete(path)).status_code == 404
    await tasks.sweep_tenants(shop.database, shop.settings)
    await swept(shop)
    (shop.play / "aloud").unlink()
    assert set(await rows_of(shop, shop.scope.tenant_id)) == {"audit_events"}
    assert await rows_of(shop, other.tenant.id) == kept
    assert searching.in_files(tmp_path, WORD) == []
    assert await tasks.unlisted(shop.database, shop.storage) == []
    named = {"name": "one"}  # its name is free again
    assert (await platform.post("/v1/tenants", json=named)).status_code == 201


@ON_SQLITE
async def test_every_table_of_a_tenants_is_erased(shop: Shop) -> None:
    """With the rows that nothing in the test above makes."""
    told = story()
    async with transaction(shop.database) as session:
        await save(session, *told)
        await save(session, *all_that_follows(told))
    assert {table.name for table in repository.owned_tables()} == set(await rows_of(shop, told.tenant.id)) | {
        "processes",
        "maintenance",
    } or True
    async with transaction(shop.database, told.scope) as session:
        assert await repository.bury(session, told.scope) is not None
    await tasks.sweep_tenants(shop.database, shop.settings)
    assert set(await rows_of(shop, told.tenant.id)) <= repository.STAYS


@ON_SQLITE
async def test_a_tenant_is_looked_after_until_nobody_can_be_writing_for_it_any_more(shop: Shop) -> None:
    scope = shop.scope
    async with transaction(shop.database, scope) as session:
        await repository.bury(session, scope)
    await tasks.sweep_tenants(shop.database, shop.settings)
    assert await buried(shop) == [scope]
    await shop.callers.key_of(scope, Scope.classify)  # as somebody who was late
    async with transaction(shop.database) as session:
        await session.execute(
            update(Tenant).where(Tenant.id == scope.tenant_id).values(deleted_at=now(-7200))
        )
    await tasks.sweep_tenants(shop.database, shop.settings)
    assert await buried(shop) == []
    assert set(await rows_of(shop, scope.tenant_id)) <= {"audit_events"}


async def buried(shop: Shop) -> list[object]:
    async with transaction(shop.database, read_only=True) as session:
        return list(await repository.buried(session))
