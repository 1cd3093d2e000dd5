"""What is known of a conversation beside its messages is kept with it, shown, and filtered by."""

import json
from typing import Any
from uuid import UUID

import pytest

from app.datasets import service
from app.infra.db.session import transaction
from tests.app.datasets.conftest import Product, jsonl, row
from tests.app.datasets.steps import added, all_of

pytestmark = pytest.mark.anyio
KNOWN = {
    "language": "de",
    "channel": "chat",
    "time": "2026-01-02T10:30:00Z",
    "customer_reference": "customer-1",
    "metadata": {"country": "DE", "total": 49.9},
}


async def test_it_comes_in_one_by_one_and_by_a_file_and_is_filtered_by(product: Product) -> None:
    dataset_id = await product.dataset()
    lines = jsonl(row("a", "where is it") | KNOWN, row("b", "give me my money back"))
    await product.put(dataset_id, lines)
    await product.work(dataset_id)
    one = await added(product, dataset_id, row("c", "it is broken") | KNOWN | {"language": "fr"})
    assert {name: one[name] for name in KNOWN} == KNOWN | {"language": "fr"}
    by_id = {found["external_id"]: found for found in await all_of(product, dataset_id)}
    assert {name: by_id["a"][name] for name in KNOWN} == KNOWN
    assert {name: by_id["b"][name] for name in KNOWN} == dict.fromkeys(KNOWN)
    some: dict[str, list[str]] = {
        "&language=de": ["a"],
        "&channel=chat": ["a", "c"],
        "&customer_reference=customer-2": [],
        "&metadata=total%3D49.9&language=fr": ["c"],
    }
    for query, expected in some.items():
        found = await all_of(product, dataset_id, query)
        assert sorted(one["external_id"] for one in found) == expected, query


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_conversation_that_is_sent_with_something_unusable_is_refused(product: Product) -> None:
    dataset_id = await product.dataset()
    wrong: list[dict[str, Any]] = [
        {"time": "yesterday"},
        {"time": "2026-01-02T10:30:00"},
        {"metadata": {"a": [1]}},
        {"metadata": {'"': "x"}},
        {"language": "no language"},
        {"customer_reference": ""},
    ]
    for attribute in wrong:
        body = row("a", "where is it") | attribute
        refused = await product.client.post(f"/v1/datasets/{dataset_id}/conversations", json=body)
        assert refused.status_code == 422, (attribute, refused.text)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_snapshot_for_a_run_holds_none_of_it(product: Product) -> None:
    dataset_id = await product.dataset()
    await added(product, dataset_id, row("a", "where is it") | KNOWN | {"category": "delivery"})
    async with transaction(product.database, product.scope) as session:
        frozen = await service.freeze(
            session, product.storage, product.scope, UUID(dataset_id), product.version
        )
    with product.storage.open_read(frozen.key) as file:
        (line,) = file.read().splitlines()
    assert set(json.loads(line)) == {"id", "messages", "category", "split"}
