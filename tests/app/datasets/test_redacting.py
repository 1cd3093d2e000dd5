"""A tenant that wants it keeps no personal data that can be told by its form, and not the file that it came in."""

from pathlib import Path

import pytest

from app.infra.db.session import transaction
from app.tenants import service as tenants
from tests.app.datasets.conftest import Product, jsonl, row

pytestmark = pytest.mark.anyio


async def test_personal_data_is_taken_out_on_the_way_in_and_the_file_goes(product: Product) -> None:
    async with transaction(product.database, product.scope) as session:
        (await tenants.get(session, product.scope)).redact = True
    dataset_id = await product.dataset()
    await product.put(dataset_id, jsonl(row("a", "write to ann@shop.example"), row("b", "where is it")))
    await product.work(dataset_id)
    told = await product.get(f"datasets/{dataset_id}")
    assert (told["state"], told["findings"]["redacted"]) == ("ready", {"email": 1})
    later = row("c", "call +49 30 1234567")
    made = await product.client.post(f"/v1/datasets/{dataset_id}/conversations", json=later)
    assert made.status_code == 201
    again = await product.client.post(f"/v1/datasets/{dataset_id}/conversations", json=later)
    assert again.status_code == 200
    kept = (await product.get(f"datasets/{dataset_id}/conversations"))["items"]
    assert sorted(one["messages"][0]["text"] for one in kept) == [
        "call [phone]",
        "where is it",
        "write to [email]",
    ]
    assert _files(product) == [], "the file holds what was taken out"
    gone = await product.client.delete(f"/v1/datasets/{dataset_id}")
    assert gone.status_code == 204


async def test_names_that_a_conversation_tells_go_from_all_of_it_where_that_is_wanted(
    product: Product,
) -> None:
    async with transaction(product.database, product.scope) as session:
        tenant = await tenants.get(session, product.scope)
        tenant.redact = tenant.redact_names = True
    dataset_id = await product.dataset()
    await product.put(dataset_id, jsonl(row("a", "my name is ann lee, where is it")))
    await product.work(dataset_id)
    told = await product.get(f"datasets/{dataset_id}")
    assert told["findings"]["redacted"] == {"name": 1}
    later = row("b", "Hi Ann, it is late")
    assert (
        await product.client.post(f"/v1/datasets/{dataset_id}/conversations", json=later)
    ).status_code == 201
    kept = (await product.get(f"datasets/{dataset_id}/conversations"))["items"]
    assert sorted(one["messages"][0]["text"] for one in kept) == [
        "Hi [name], it is late",
        "my name is [name], where is it",
    ]


async def test_without_the_wish_nothing_changes(product: Product) -> None:
    dataset_id = await product.dataset()
    await product.put(dataset_id, jsonl(row("a", "write to ann@shop.example")))
    await product.work(dataset_id)
    (kept,) = (await product.get(f"datasets/{dataset_id}/conversations"))["items"]
    assert kept["messages"][0]["text"] == "write to ann@shop.example" and len(_files(product)) == 1


def _files(product: Product) -> list[Path]:
    return [path for path in (product.settings.home / "storage").rglob("uploads/*") if path.is_file()]
