"""A dataset frozen for a run, and what is said when it is not enough for one."""

import json
import random
from typing import Any
from uuid import UUID

import pytest

from app.datasets import service
from app.datasets.counts import Cell
from app.datasets.service import DatasetBusy, FrozenDataset
from app.errors import NotFound
from app.infra.db.session import transaction
from app.infra.tables.schemas import SchemaVersion
from app.runs.inputs import checked
from app.schemas import service as schemas
from evaluation.contract.record import Split, parse_jsonl
from tests.app.datasets.conftest import DRAFT, Product, jsonl, row

pytestmark = pytest.mark.anyio


def many(count: int, split: str | None, prefix: str = "c") -> list[dict[str, Any]]:
    rng = random.Random(f"{split}{prefix}")
    more = {} if split is None else {"split": split}
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [
        row(
            f"{prefix}-{split}-{i}",
            "".join(rng.choices(letters, k=30)),
            ("refund", "delivery")[i % 2],
            **more,
        )
        for i in range(count)
    ]


async def freeze(product: Product, dataset_id: str, version: SchemaVersion | None = None) -> FrozenDataset:
    async with transaction(product.database, product.scope) as session:
        return await service.freeze(
            session, product.storage, product.scope, UUID(dataset_id), version or product.version
        )


async def missing(product: Product, dataset_id: str, version: SchemaVersion | None = None) -> list[str]:
    async with transaction(product.database, product.scope, read_only=True) as session:
        return await service.shortfall(session, product.scope, UUID(dataset_id), version or product.version)


async def publish(product: Product, **changes: Any) -> SchemaVersion:
    async with transaction(product.database, product.scope) as session:
        schema = await schemas.get(session, product.scope, product.schema_id, lock=True)
        schema.draft = DRAFT | changes
        await session.flush()
        return (await schemas.publish(session, product.scope, product.key_id, product.schema_id)).version


def content(product: Product, snapshot: FrozenDataset) -> bytes:
    with product.storage.open_read(snapshot.key) as file:
        return file.read()


async def test_a_snapshot_is_what_a_run_reads(product: Product) -> None:
    rows = [*many(30, "train"), *many(24, "test"), row("none", "neither of the two", None, split="train")]
    unlabelled = {"id": "u", "messages": [{"role": "customer", "text": "what is this"}]}
    dataset_id = await product.filled(*rows, unlabelled)
    snapshot = await freeze(product, dataset_id)
    schema = schemas.content_of(product.version)
    parsed = parse_jsonl(content(product, snapshot), schema)
    assert (len(parsed.conversations), parsed.rejects) == (55, [])
    assert [c.id for c in parsed.conversations] == sorted(r["id"] for r in rows)
    assert snapshot.key.endswith(f"{snapshot.sha256}.jsonl")
    inputs = checked(schema, parsed.conversations)
    assert {split: len(inputs.splits[split]) for split in Split} == {
        Split.train: 31, Split.validation: 0, Split.calibration: 0, Split.test: 24,
    }  # fmt: skip
    assert snapshot.counts[Cell(Split.train, True, None)] == 1
    assert sum(snapshot.counts.values()) == 55


async def test_equal_content_freezes_to_equal_bytes(product: Product) -> None:
    """In another order, another form, and whatever the database's locale makes of Ö, z and Z."""
    rows = [
        row(name, f"{name * 5} text", split="train")
        for name in ("z", "Z", "Ö", "a-1", "a1", "é", "10", "9", "😀")
    ]
    first = await product.filled(*rows)
    second = await product.dataset("again")
    for one in reversed(rows):
        await product.client.post(f"/v1/datasets/{second}/conversations", json=one)
    snapshots = [await freeze(product, dataset_id) for dataset_id in (first, second, first)]
    assert len({snapshot.key for snapshot in snapshots}) == 1
    lines = [json.loads(line)["id"] for line in content(product, snapshots[0]).splitlines()]
    assert lines == sorted(r["id"] for r in rows)


async def test_a_snapshot_stays_when_its_dataset_changes(product: Product) -> None:
    dataset_id = await product.filled(*many(6, "train"))
    before = await freeze(product, dataset_id)
    kept = content(product, before)
    one = (await product.get(f"datasets/{dataset_id}/conversations"))["items"][0]
    assert (await product.client.delete(f"/v1/conversations/{one['id']}")).status_code == 200
    after = await freeze(product, dataset_id)
    assert after.sha256 != before.sha256 and content(product, before) == kept


async def test_the_newest_label_is_frozen(product: Product) -> None:
    dataset_id = await product.filled(row("a", "give it back", "refund"))
    one = (await product.get(f"datasets/{dataset_id}/conversations"))["items"][0]
    body = {"category_key": None, "schema_version_id": str(product.version.id), "source": "reviewer"}
    await product.client.put(f"/v1/conversations/{one['id']}/label", json=body)
    assert json.loads(content(product, await freeze(product, dataset_id)))["category"] is None


async def test_what_decided_a_label_is_frozen_with_it(product: Product) -> None:
    """However it came in; a label that does not say leaves the bytes as they were before there was such a thing."""
    decided = {"criterion": "the parcel is late"}
    dataset_id = await product.filled(row("a", "give it back"), row("b", "so late", "delivery") | decided)
    third = row("c", "where is it all", "delivery") | decided
    assert (await product.client.post(f"/v1/datasets/{dataset_id}/conversations", json=third)).is_success
    lines = content(product, await freeze(product, dataset_id)).splitlines()
    assert [json.loads(line).get("criterion") for line in lines] == [None, *[decided["criterion"]] * 2]
    assert b"criterion" not in lines[0]
    assert [c.criterion for c in parse_jsonl(b"\n".join(lines)).conversations][2] == decided["criterion"]


async def test_labels_that_a_version_does_not_have_are_left_out_and_counted(product: Product) -> None:
    dataset_id = await product.filled(*many(10, "train"), row("n", "neither of these", None))
    renamed = [DRAFT["categories"][0], {**DRAFT["categories"][1], "key": "shipping"}]
    version = await publish(product, categories=renamed, none_of_these=False)
    snapshot = await freeze(product, dataset_id, version)
    assert (sum(snapshot.counts.values()), snapshot.left_out) == (5, 6)


async def test_enough_is_enough(product: Product) -> None:
    dataset_id = await product.filled(*many(30, "train"), *many(24, "test"))
    assert await missing(product, dataset_id) == []


async def test_what_is_missing_is_said(product: Product) -> None:
    dataset_id = await product.filled(*many(30, "train"), *many(3, "test"))
    assert await missing(product, dataset_id) == ["the split test has 3 labelled conversations and needs 20"]
    lone = [one | {"category": "refund"} for one in many(25, "test", "lone")]
    dataset_id = await product.filled(*many(30, "train"), *lone)
    assert await missing(product, dataset_id) == [
        "the split test has conversations of one category only ('refund')"
    ]


async def test_labels_of_another_version_are_named_where_they_are_missed(product: Product) -> None:
    dataset_id = await product.filled(*many(30, "train"), *many(24, "test"))
    renamed = [DRAFT["categories"][0], {**DRAFT["categories"][1], "key": "shipping"}]
    said = await missing(product, dataset_id, await publish(product, categories=renamed))
    assert "the split train has 15 labelled" in said[0] and said[-1].endswith("not counted: delivery")


async def test_a_version_that_leaves_nothing_to_decide_is_named(product: Product) -> None:
    dataset_id = await product.filled(*many(30, "train"), *many(24, "test"))
    version = await publish(product, categories=DRAFT["categories"][:1], none_of_these=False)
    assert "nothing to decide" in (await missing(product, dataset_id, version))[0]


async def test_a_dataset_that_is_not_ready_is_not_enough(product: Product) -> None:
    dataset_id = await product.dataset()
    assert await missing(product, dataset_id) == ["the dataset is empty, not ready"]
    await product.put(dataset_id, jsonl(*many(4, "train")))
    assert await missing(product, dataset_id) == ["the dataset is uploaded, not ready"]
    with pytest.raises(DatasetBusy):
        await freeze(product, dataset_id)


async def test_a_dataset_of_another_schema_is_not_enough(product: Product) -> None:
    async with transaction(product.database, product.scope) as session:
        other = await schemas.create(session, product.scope, product.key_id, "another", DRAFT)
        version = (await schemas.publish(session, product.scope, product.key_id, other.id)).version
    dataset_id = await product.dataset()
    assert await missing(product, dataset_id, version) == ["the dataset belongs to another schema"]


async def test_another_tenants_dataset_cannot_be_frozen(product: Product, other_scope: Any) -> None:
    dataset_id = await product.filled(*many(4, "train"))
    async with transaction(product.database, other_scope) as session:
        with pytest.raises(NotFound):
            await service.freeze(session, product.storage, other_scope, UUID(dataset_id), product.version)
