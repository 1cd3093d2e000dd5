"""What several tests do with a dataset, over the API."""

from typing import Any
from uuid import UUID

from httpx import Response

from app.datasets import repository, service
from app.datasets.counts import from_stored
from app.infra.db.session import transaction
from tests.app.datasets.conftest import Product


async def append(product: Product, dataset_id: str, body: dict[str, Any]) -> Response:
    return await product.client.post(f"/v1/datasets/{dataset_id}/conversations", json=body)


async def added(product: Product, dataset_id: str, body: dict[str, Any]) -> Any:
    answer = await append(product, dataset_id, body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def label(product: Product, conversation_id: str, category: str | None, **more: Any) -> Response:
    body = {"category_key": category, "schema_version_id": str(product.version.id), "source": "reviewer"}
    return await product.client.put(f"/v1/conversations/{conversation_id}/label", json=body | more)


async def all_of(product: Product, dataset_id: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = await product.get(f"datasets/{dataset_id}/conversations?limit=50{query}{cursor}")
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


async def check_counts(product: Product, dataset_id: str) -> None:
    """What is kept beside the dataset is what is in it, and no group is in two splits."""
    async with transaction(product.database, product.scope, read_only=True) as session:
        dataset = await service.get(session, product.scope, UUID(dataset_id))
        assert dict(from_stored(dataset.counts).cells) == await repository.cells(
            session, product.scope, UUID(dataset_id)
        )
        where: dict[str, set[str]] = {}
        async for one, *_ in repository.all_labelled(session, product.scope, UUID(dataset_id)):
            where.setdefault(one.group_id, set()).add(one.split)
    assert all(len(splits) == 1 for splits in where.values())


async def offset(product: Product, dataset_id: str) -> tuple[int, str]:
    found = await product.client.head(f"/v1/datasets/{dataset_id}/content")
    assert found.status_code == 204
    told = await product.get(f"datasets/{dataset_id}/upload")
    assert told["received_bytes"] == int(found.headers["Upload-Offset"])
    return told["received_bytes"], found.headers["Upload-Complete"]
