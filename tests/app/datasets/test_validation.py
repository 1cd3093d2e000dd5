"""The job that makes conversations of a file: what is kept, what is refused, and what becomes of it in trouble."""

import gzip
import json
import random
from collections import defaultdict
from typing import Any
from uuid import UUID

import pytest

from app.datasets import repository, tasks
from app.infra.db.session import transaction
from app.infra.tables.jobs import JobKind, JobState
from app.jobs import runner
from app.jobs import service as jobs
from app.schemas import service as schemas
from evaluation.formats import reader
from tests.app.datasets.conftest import Product, jsonl, row
from tests.app.datasets.steps import all_of, check_counts

pytestmark = pytest.mark.anyio
MIXED = [
    row("a", "I want my money back for the broken lamp"),
    row("b", "Where is the parcel that I ordered on Monday", "delivery"),
    row("c", "Just saying hello to everybody there", None),
    {"id": "d", "messages": [{"role": "customer", "text": "This one has got no label at all"}]},
]


async def test_good_rows_are_kept_and_others_are_listed_with_their_lines(product: Product) -> None:
    dataset_id = await product.dataset()
    content = (
        jsonl(*MIXED, row("a", "again"), row("e", "x", "returns"))
        + b"{oops\n"
        + jsonl(row("f", "Send it back"))
    )
    await product.put(dataset_id, gzip.compress(content), Content_Encoding="gzip")
    job = await product.work(dataset_id)
    assert (job.state, job.progress) == (JobState.succeeded, {"done": 5, "total": 5, "message": "storing"})
    told = await product.get(f"datasets/{dataset_id}")
    assert (told["state"], told["problem"]) == ("ready", None)
    assert (told["counts"]["conversations"], told["counts"]["labelled"], told["counts"]["rejected"]) == (
        5,
        4,
        3,
    )
    found = await all_of(product, dataset_id)
    assert [one["external_id"] for one in reversed(found)] == ["a", "b", "c", "d", "f"]
    labels = {one["external_id"]: one["label"] for one in found}
    assert labels["d"] is None and labels["c"]["category_key"] is None
    assert (labels["b"]["category_key"], labels["b"]["source"]) == ("delivery", "import")
    assert labels["b"]["schema_version_id"] == str(product.version.id)
    rejects = await product.client.get(f"/v1/datasets/{dataset_id}/rejects")
    assert rejects.headers["content-type"].startswith("application/jsonl")
    lines = [json.loads(line) for line in rejects.text.splitlines()]
    assert [(line["line"], line["reason"][:8]) for line in lines] == [
        (5, "id 'a' w"),
        (6, "category"),
        (7, "not JSON"),
    ]
    await check_counts(product, dataset_id)


async def test_counts_are_told_by_split_and_category(product: Product) -> None:
    rng = random.Random(1)
    texts = [" ".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=40)) for _ in range(9)]
    dataset_id = await product.filled(
        *(row(f"t{i}", texts[i], "refund", split="test") for i in range(3)),
        *(row(f"n{i}", texts[3 + i], "delivery", split="train") for i in range(4)),
        row("o", texts[7], None, split="train"),
        {"id": "u", "messages": [{"role": "customer", "text": texts[8]}], "split": "train"},
    )
    counts = (await product.get(f"datasets/{dataset_id}"))["counts"]
    by_split = {one.pop("split"): one for one in counts["splits"]}
    assert by_split["train"] == {
        "conversations": 6,
        "labelled": 5,
        "categories": [{"category": "delivery", "conversations": 4}, {"category": None, "conversations": 1}],
    }
    assert by_split["test"]["categories"] == [{"category": "refund", "conversations": 3}]
    assert by_split["calibration"] == {"conversations": 0, "labelled": 0, "categories": []}
    assert len(await all_of(product, dataset_id, "&split=test")) == 3


async def test_a_csv_file_makes_the_same_conversations(product: Product) -> None:
    dataset_id = await product.dataset()
    table = "id,role,text,category\na,customer,give it back,refund\na,agent,sure,refund\nb,customer,where,delivery\n"
    await product.put(dataset_id, table.encode(), Content_Type="text/csv")
    await product.work(dataset_id)
    found = await all_of(product, dataset_id)
    assert {one["external_id"]: len(one["messages"]) for one in found} == {"a": 2, "b": 1}


async def test_near_duplicates_are_one_group_in_one_split_and_counted(product: Product) -> None:
    base = "I ordered a blue jacket last week and it has still not arrived at my {}"
    rows = [
        row("a", base.format("house"), split="train"),
        row("b", base.format("home"), split="train"),
        row("c", base.format("HOUSE!"), split="test"),
        row("d", "Something else entirely, about an invoice from spring", split="train"),
    ]
    dataset_id = await product.filled(*rows)
    counts = (await product.get(f"datasets/{dataset_id}"))["counts"]
    assert (counts["exact_duplicates"], counts["near_duplicates"], counts["moved"]) == (1, 1, 2)
    found = {one["external_id"]: (one["split"], one["group_id"]) for one in await all_of(product, dataset_id)}
    assert found["a"] == found["b"] == found["c"] != found["d"]
    assert (found["a"][0], found["d"][0]) == ("test", "train")


@pytest.mark.seconds
async def test_no_group_straddles_a_split_in_a_large_file(product: Product) -> None:
    rng = random.Random(3)
    words = [
        "order",
        "card",
        "late",
        "refund",
        "twice",
        "parcel",
        "broken",
        "invoice",
        "phone",
        "size",
        "wrong",
    ]
    rows = []
    for number in range(1200):
        text = " ".join(random.Random(number % 400).choices(words, k=15)).split()
        text[rng.randrange(15)] = rng.choice(words)
        rows.append(row(f"c{number}", " ".join(text), split=rng.choice(["train", "test", "validation"])))
    dataset_id = await product.filled(*rows)
    where = defaultdict(set)
    sizes: dict[str, int] = defaultdict(int)
    async with transaction(product.database, product.scope, read_only=True) as session:
        async for one, *_ in repository.all_labelled(session, product.scope, UUID(dataset_id)):
            where[one.group_id].add(one.split)
            sizes[one.group_id] += 1
    assert sum(sizes.values()) == 1200 and max(sizes.values()) > 2
    assert all(len(splits) == 1 for splits in where.values())
    await check_counts(product, dataset_id)


HOPELESS = {
    "nothing": (b"\n\n", "no_conversation", "is empty", 0),
    "only bad rows": (b"{}\n[]\n", "no_conversation", "reject file", 2),
    "torn gzip": (gzip.compress(jsonl(*MIXED))[:-4], "not_whole_gzip", "send it again", 0),
    "bomb": (gzip.compress(b" " * (4 << 20)), "unpacks_too_large", "100 times", 0),
    "zip": (b"PK\x03\x04....", "not_whole_workbook", "save it as CSV", 0),
}


@pytest.mark.parametrize("case", HOPELESS)
async def test_a_file_without_a_good_row_says_what_to_do_and_another_may_follow(
    case: str, product: Product
) -> None:
    content, code, advice, rejected = HOPELESS[case]
    dataset_id = await product.dataset()
    await product.put(dataset_id, content)
    assert (await product.work(dataset_id)).state is JobState.succeeded
    told = await product.get(f"datasets/{dataset_id}")
    assert (told["state"], told["problem"]["code"]) == ("failed", code)
    assert advice in told["problem"]["message"]
    assert await all_of(product, dataset_id) == []
    rejects = (await product.client.get(f"/v1/datasets/{dataset_id}/rejects")).text
    assert len(rejects.splitlines()) == told["counts"]["rejected"] == rejected
    await product.put(dataset_id, jsonl(*MIXED))
    await product.work(dataset_id)
    told = await product.get(f"datasets/{dataset_id}")
    assert (told["state"], told["problem"], told["counts"]["conversations"]) == ("ready", None, 4)


async def test_what_an_earlier_file_left_in_the_storage_is_removed(product: Product) -> None:
    dataset_id = await product.dataset()
    for content in (b"{}\n", b"{}\n{}\n"):
        await product.put(dataset_id, content)
        await product.work(dataset_id)
    folder = product.settings.home / "storage" / f"tenants/{product.scope.tenant_id}/datasets/{dataset_id}"
    assert {place.name: len(list(place.iterdir())) for place in folder.iterdir()} == {
        "uploads": 1,
        "rejects": 1,
    }
    assert (await product.client.delete(f"/v1/datasets/{dataset_id}")).status_code == 204
    assert [file for file in folder.rglob("*") if file.is_file()] == []


async def test_too_many_rejects_stop_the_reading_and_are_kept(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MAX_REJECTS", 20)
    dataset_id = await product.dataset()
    await product.put(dataset_id, jsonl(*MIXED) + b"{\n" * 1000)
    await product.work(dataset_id)
    told = await product.get(f"datasets/{dataset_id}")
    assert (told["state"], told["problem"]["code"], told["counts"]["rejected"]) == (
        "failed",
        "too_many_rejects",
        20,
    )


async def test_labels_are_taken_as_they_are_before_there_is_a_usable_schema(product: Product) -> None:
    draft = {"categories": [{"key": "refund"}]}
    async with transaction(product.database, product.scope) as session:
        made = await schemas.create(session, product.scope, product.key_id, "unfinished", draft)
    body = {"name": "early", "schema_id": str(made.id)}
    dataset_id = (await product.client.post("/v1/datasets", json=body)).json()["id"]
    await product.put(dataset_id, jsonl(row("a", "hello", "anything")))
    await product.work(dataset_id)
    found = await all_of(product, dataset_id)
    assert (found[0]["label"]["category_key"], found[0]["label"]["schema_version_id"]) == ("anything", None)


async def test_an_attempt_begins_with_nothing_that_another_left(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "ROWS_AT_ONCE", 10)
    dataset_id = await product.dataset()
    rows = [row(f"c{i}", f"{i * 7919:x} {i * 104729:x} words") for i in range(40)]
    await product.put(dataset_id, jsonl(*rows))
    insert, calls = repository.insert_rows, 0

    async def breaking(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise RuntimeError("the worker had an accident")
        await insert(*given)

    monkeypatch.setattr(repository, "insert_rows", breaking)
    job = await product.work(dataset_id)
    assert job.state is JobState.queued
    assert len(await all_of(product, dataset_id)) == 20
    assert (await product.get(f"datasets/{dataset_id}"))["state"] == "validating"
    monkeypatch.undo()
    async with transaction(product.database, product.scope) as session:  # its back-off is over
        held = await jobs.get(session, product.scope, job.id)
        held.available_at = held.created_at
    assert (await product.work(dataset_id)).state is JobState.succeeded
    assert len(await all_of(product, dataset_id)) == 40
    await check_counts(product, dataset_id)


async def test_a_job_that_gives_up_leaves_a_dataset_that_takes_another_file(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = await product.dataset()
    await product.put(dataset_id, jsonl(*MIXED))
    async with transaction(product.database, product.scope) as session:
        job = await jobs.newest_of(session, product.scope, JobKind.validate_dataset, UUID(dataset_id))
        assert job is not None
        await jobs.request_cancel(session, product.scope, job.id)
    told = await product.get(f"datasets/{dataset_id}")
    assert (told["state"], told["problem"]["code"]) == ("failed", "cancelled")
    await product.put(dataset_id, jsonl(*MIXED))
    await product.work(dataset_id)
    assert (await product.get(f"datasets/{dataset_id}"))["state"] == "ready"


async def test_a_worker_that_shuts_down_hands_the_file_back(product: Product) -> None:
    dataset_id = await product.dataset()
    await product.put(dataset_id, jsonl(*MIXED))
    async with transaction(product.database, product.scope, read_only=True) as session:
        job = await jobs.newest_of(session, product.scope, JobKind.validate_dataset, UUID(dataset_id))
    assert job is not None
    runner.run_job(job.id, product.settings, shutting_down=lambda: True)
    assert (await product.work(dataset_id)).state is JobState.succeeded
