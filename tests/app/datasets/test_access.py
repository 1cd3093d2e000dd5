"""Who sees what of a dataset, and when."""

import pytest

from app.auth import service as auth
from app.auth.principal import Scope
from app.auth.service import KeyOrder
from app.infra.db.session import transaction
from tests.app.datasets.conftest import JSONL, Product, client_of, jsonl, row
from tests.app.datasets.steps import all_of

pytestmark = pytest.mark.anyio
ROWS = [row("a", "I want my money back"), row("b", "Where is the parcel", "delivery")]


async def test_rejects_are_told_only_once_a_file_has_been_checked(product: Product) -> None:
    dataset_id = await product.dataset()
    refused = await product.client.get(f"/v1/datasets/{dataset_id}/rejects")
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_busy")
    await product.put(dataset_id, jsonl(*ROWS))
    assert (await product.client.get(f"/v1/datasets/{dataset_id}/rejects")).status_code == 409
    await product.work(dataset_id)
    assert (await product.client.get(f"/v1/datasets/{dataset_id}/rejects")).text == ""


async def test_nothing_of_a_dataset_is_there_for_another_tenant(product: Product) -> None:
    dataset_id = await product.filled(*ROWS)
    conversation_id = (await all_of(product, dataset_id))[0]["id"]
    label = {"category_key": "refund", "schema_version_id": str(product.version.id), "source": "reviewer"}
    new = {"id": "x", "messages": [{"role": "customer", "text": "hi"}]}
    headers = {"Content-Type": "application/jsonl"}
    asked = [
        ("GET", f"datasets/{dataset_id}", {}),
        ("DELETE", f"datasets/{dataset_id}", {}),
        ("PUT", f"datasets/{dataset_id}/content", {"content": b"x", "headers": headers}),
        ("HEAD", f"datasets/{dataset_id}/content", {}),
        ("GET", f"datasets/{dataset_id}/upload", {}),
        ("GET", f"datasets/{dataset_id}/rejects", {}),
        ("GET", f"datasets/{dataset_id}/conversations", {}),
        ("POST", f"datasets/{dataset_id}/conversations", {"json": new}),
        ("GET", f"conversations/{conversation_id}", {}),
        ("DELETE", f"conversations/{conversation_id}", {}),
        ("PUT", f"conversations/{conversation_id}/label", {"json": label}),
        ("POST", "datasets", {"json": {"name": "theirs", "schema_id": str(product.schema_id)}}),
    ]
    for method, path, more in asked:
        assert (await product.stranger.request(method, f"/v1/{path}", **more)).status_code == 404, path
    assert (await product.stranger.get("/v1/datasets")).json()["items"] == []
    assert len(await all_of(product, dataset_id)) == 2
    assert not list((product.settings.home / "uploads").iterdir())


async def test_reading_needs_its_scope_and_writing_another(product: Product) -> None:
    async with transaction(product.database, product.scope) as session:
        order = KeyOrder("watcher", [Scope.datasets_read])
        key = await auth.create(session, None, product.scope.tenant_id, order)
    dataset_id = await product.filled(*ROWS)
    async with client_of(product.api, key.text) as client:
        assert (await client.get(f"/v1/datasets/{dataset_id}")).status_code == 200
        assert (await client.get(f"/v1/datasets/{dataset_id}/conversations")).status_code == 403
        assert (await client.delete(f"/v1/datasets/{dataset_id}")).status_code == 403
        sent = await client.put(f"/v1/datasets/{dataset_id}/content", content=b"x", headers=JSONL)
        assert sent.status_code == 403
