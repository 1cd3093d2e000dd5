"""Labels: the newest counts, and each belongs to a version of the dataset's schema."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from app.datasets import repository
from app.infra.db.base import utc_now
from app.infra.db.session import transaction
from app.schemas import service as schemas
from tests.app.datasets.conftest import DRAFT, Product, row
from tests.app.datasets.steps import added, label

pytestmark = pytest.mark.anyio


async def test_the_newest_label_counts_and_older_ones_stay(product: Product) -> None:
    dataset_id = await product.filled(row("a", "give it back"))
    one = (await product.get(f"datasets/{dataset_id}/conversations"))["items"][0]
    for category in ("delivery", None, "refund", "delivery"):
        told = await label(product, one["id"], category, source="correction")
        assert (told.status_code, told.json()["label"]["category_key"]) == (200, category)
        assert told.json()["label"]["created_by"] == str(product.key_id)
    again = await label(product, one["id"], "delivery", source="correction")
    assert again.json()["label"] == told.json()["label"]
    assert (await product.get(f"conversations/{one['id']}"))["label"]["category_key"] == "delivery"
    categories = (await product.get(f"datasets/{dataset_id}"))["counts"]["splits"]
    assert [c for split in categories for c in split["categories"]] == [
        {"category": "delivery", "conversations": 1}
    ]
    async with transaction(product.database, product.scope, read_only=True) as session:
        first = await repository.first_label(session, product.scope, UUID(one["id"]))
    assert first is not None and first.category_key == "refund"


async def test_a_label_is_newer_than_the_one_before_whatever_the_clocks_say(product: Product) -> None:
    dataset_id = await product.filled(row("a", "give it back"))
    one = (await product.get(f"datasets/{dataset_id}/conversations"))["items"][0]
    async with transaction(product.database, product.scope) as session:
        first = await repository.first_label(session, product.scope, UUID(one["id"]))
        assert first is not None
        first.created_at = utc_now().replace(year=2090)
    assert (await label(product, one["id"], "delivery")).json()["label"]["created_at"].startswith("2090")
    assert (await product.get(f"conversations/{one['id']}"))["label"]["category_key"] == "delivery"


@pytest.mark.parametrize(
    "wrong",
    [
        {"category_key": "returns"},
        {"category_key": "x" * 200},
        {"schema_version_id": str(uuid4())},
        {"source": "import"},
        {"source": "guess"},
    ],
)
async def test_a_label_that_its_schema_version_does_not_have_is_refused(
    product: Product, wrong: dict[str, Any]
) -> None:
    made = await added(product, await product.dataset(), row("a", "give it back"))
    refused = await label(product, made["id"], "refund", **wrong)
    assert refused.status_code == 422
    assert await product.get(f"conversations/{made['id']}") == made


async def test_a_label_of_another_schema_is_refused(product: Product) -> None:
    made = await added(product, await product.dataset(), row("a", "give it back"))
    async with transaction(product.database, product.scope) as session:
        draft = product.version.content
        other = await schemas.create(session, product.scope, product.key_id, "another", draft)
        version = (await schemas.publish(session, product.scope, product.key_id, other.id)).version
    refused = await label(product, made["id"], "refund", schema_version_id=str(version.id))
    assert (refused.status_code, refused.json()["problems"][0]["where"]) == (422, "body.schema_version_id")


async def test_a_label_may_say_what_decides_it(product: Product) -> None:
    made = await added(product, await product.dataset(), row("a", "give it back"))
    async with transaction(product.database, product.scope) as session:
        schema = await schemas.get(session, product.scope, product.schema_id, lock=True)
        refund, delivery = DRAFT["categories"]
        schema.draft = DRAFT | {"categories": [refund | {"includes": ["it broke"]}, delivery]}
        await session.flush()
        version = (await schemas.publish(session, product.scope, product.key_id, product.schema_id)).version
    under = {"schema_version_id": str(version.id)}
    refused = await label(product, made["id"], "refund", criterion="Wants money back.", **under)
    assert (refused.status_code, refused.json()["problems"][0]["where"]) == (422, "body.criterion")
    assert "include or exclude" in refused.json()["problems"][0]["message"]
    told = await label(product, made["id"], "refund", criterion="it broke", **under)
    assert told.json()["label"]["criterion"] == "it broke"
    without = await label(product, made["id"], "refund", **under)
    assert without.json()["label"]["criterion"] is None  # another label, though of the same category
