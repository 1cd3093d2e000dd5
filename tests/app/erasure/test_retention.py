"""What a tenant keeps for so many days goes when they are over, as if somebody had deleted it."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from app.erasure import tasks
from app.infra.db.base import utc_now
from app.infra.db.session import transaction
from app.infra.tables.datasets import ConversationRow
from app.infra.tables.files import StoredFile
from tests.app.erasure.steps import lines, swept, trained, upload
from tests.app.runs.conftest import Shop

pytestmark = pytest.mark.anyio
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def change(shop: Shop, **settings: int) -> None:
    changed = await shop.client.patch(f"/v1/tenants/{shop.scope.tenant_id}", json=settings)
    assert changed.status_code == 200, changed.text


async def aged(shop: Shop, table: type, column: str, days: int, *which: object) -> None:
    async with transaction(shop.database, shop.scope) as session:
        older = update(table).where(table.tenant_id == shop.scope.tenant_id, *which)
        await session.execute(older.values({column: utc_now() - timedelta(days=days)}))


@pytest.mark.seconds
async def test_old_conversations_go_from_everything(shop: Shop) -> None:
    dataset_id = await upload(shop, lines())
    await trained(shop, dataset_id)
    await change(shop, keep_conversations_days=30)
    await tasks.sweep_retention(shop.database, shop.settings)
    assert (await shop.get(f"datasets/{dataset_id}"))["counts"]["conversations"] == 57
    own = ConversationRow.external_id.in_(["said-1", "test-3"])
    await aged(shop, ConversationRow, "created_at", 31, own)
    await tasks.sweep_retention(shop.database, shop.settings)
    await swept(shop)
    assert (await shop.get(f"datasets/{dataset_id}"))["counts"]["conversations"] == 55
    assert not any("/uploads/" in key or "/traces/" in key for key in shop.storage.listed())


@pytest.mark.seconds
@ON_SQLITE
async def test_old_files_go_and_what_models_need_stays(shop: Shop) -> None:
    dataset_id = await upload(shop, lines())
    run_id = await trained(shop, dataset_id)
    await change(shop, keep_files_days=7)
    await aged(shop, StoredFile, "made_at", 8)
    waiting = await shop.run(dataset_id=dataset_id)
    await shop.work(waiting["id"], "traces")
    await aged(shop, StoredFile, "made_at", 8)
    await tasks.sweep_retention(shop.database, shop.settings)
    await swept(shop)
    left = shop.storage.listed()
    assert not any("/uploads/" in key or "/rejects/" in key or f"/{run_id}/" in key for key in left)
    assert any("/snapshots/" in key for key in left) and any("/adapters/" in key for key in left)
    assert any(f"/{waiting['id']}/traces/" in key for key in left)  # the next stage reads them
    assert (await shop.client.get(f"/v1/datasets/{dataset_id}/rejects")).text == ""
    assert (await shop.work(waiting["id"], "sft")).error is None
    assert (await shop.get(f"datasets/{dataset_id}"))["counts"]["conversations"] == 57
