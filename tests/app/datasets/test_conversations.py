"""Conversations one by one, where they belong, and their end."""

import asyncio
import random
from uuid import UUID, uuid4

import pytest

from app.infra.db.session import transaction
from app.infra.tables.runs import ModelVersion, Run
from tests.app.datasets.conftest import Product, row
from tests.app.datasets.steps import added, append, check_counts, label

pytestmark = pytest.mark.anyio
JACKET = "I ordered a blue jacket last week and it has still not arrived at my {}"
WORDS = ["order", "card", "late", "refund", "twice", "parcel", "broken", "invoice", "phone", "size", "wrong"]


async def test_a_dataset_can_grow_without_a_file(product: Product) -> None:
    dataset_id = await product.dataset()
    made = await added(product, dataset_id, row("a", "give it back"))
    assert (made["external_id"], made["label"]["category_key"]) == ("a", "refund")
    assert made["label"]["schema_version_id"] == str(product.version.id)
    told = await product.get(f"datasets/{dataset_id}")
    assert (told["state"], told["counts"]["conversations"], told["counts"]["labelled"]) == ("ready", 1, 1)
    assert await product.get(f"conversations/{made['id']}") == made
    assert (await product.get(f"datasets/{dataset_id}/conversations"))["items"] == [made]


async def test_the_same_conversation_again_is_no_other_one(product: Product) -> None:
    dataset_id = await product.dataset()
    sent = row("a", "give it back")
    made = await added(product, dataset_id, sent)
    again = await append(product, dataset_id, sent)
    assert (again.status_code, again.json()) == (200, made)
    assert (await label(product, made["id"], "delivery")).status_code == 200
    after_a_review = await append(product, dataset_id, sent)
    assert (after_a_review.status_code, after_a_review.json()["label"]["category_key"]) == (200, "delivery")
    for other in (
        row("a", "give it back!"),
        row("a", "give it back", "delivery"),
        row("a", "give it back", None),
    ):
        refused = await append(product, dataset_id, other)
        assert (refused.status_code, refused.json()["code"]) == (409, "conversation_differs")
    unlabelled = {name: value for name, value in sent.items() if name != "category"}
    assert (await append(product, dataset_id, unlabelled)).status_code == 409
    assert (await product.get(f"datasets/{dataset_id}"))["counts"]["conversations"] == 1


async def test_many_who_send_the_same_at_once_add_it_once(product: Product) -> None:
    dataset_id = await product.dataset()
    answers = await asyncio.gather(*(append(product, dataset_id, row("a", "give it back")) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    await check_counts(product, dataset_id)


BAD = [
    row("a", "hello", "returns"),
    row("a", " "),
    row("a", "nul\x00"),
    row("", "hello"),
    row("a" * 257, "hello"),
    row("a", "hello", split="dev"),
    row("a", "hello", colour="red"),
    row("a", "x" * 100_001),
    {"id": "a", "messages": []},
    {"id": "a", "messages": [{"role": "agent", "text": "hi"}]},
    {"id": "a", "messages": [{"role": "customer", "text": "hi"}] * 501},
    row("a", "hello", schema_version_id=str(uuid4())),
]


@pytest.mark.parametrize("case", range(len(BAD)))
async def test_a_bad_conversation_is_refused(product: Product, case: int) -> None:
    dataset_id = await product.dataset()
    refused = await append(product, dataset_id, BAD[case])
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    assert (await product.get(f"datasets/{dataset_id}"))["state"] == "empty"


async def test_half_a_character_is_refused(product: Product) -> None:
    dataset_id = await product.dataset()
    content = b'{"id": "a", "messages": [{"role": "customer", "text": "\\ud800"}]}'
    headers = {"Content-Type": "application/json"}
    path = f"/v1/datasets/{dataset_id}/conversations"
    assert (await product.client.post(path, content=content, headers=headers)).status_code == 422


async def test_one_that_nearly_repeats_another_joins_it(product: Product) -> None:
    dataset_id = await product.filled(
        row("a", JACKET.format("house"), split="validation"),
        row("b", "An invoice from spring is missing", split="train"),
    )
    near = await added(product, dataset_id, row("c", JACKET.format("home")))
    same = await added(product, dataset_id, row("d", JACKET.format("HOUSE")))
    far = await added(product, dataset_id, row("e", "The parcel was left with a neighbour", split="train"))
    assert (
        near["split"] == same["split"] == "validation"
        and near["group_id"] == same["group_id"] != far["group_id"]
    )
    counts = (await product.get(f"datasets/{dataset_id}"))["counts"]
    assert (counts["exact_duplicates"], counts["near_duplicates"], counts["moved"]) == (1, 1, 0)
    await check_counts(product, dataset_id)


async def test_the_held_out_side_wins_when_one_arrives_that_repeats_it(product: Product) -> None:
    dataset_id = await product.filled(row("a", JACKET.format("house"), split="train"))
    late = await added(product, dataset_id, row("b", JACKET.format("home"), split="test"))
    early = (await product.get(f"datasets/{dataset_id}/conversations?split=test"))["items"]
    assert (late["split"], len(early)) == ("test", 2)
    stays = await added(product, dataset_id, row("c", JACKET.format("house!"), split="train"))
    assert stays["split"] == "test"
    assert (await product.get(f"datasets/{dataset_id}"))["counts"]["moved"] == 2
    await check_counts(product, dataset_id)


async def test_two_groups_that_hang_together_through_a_new_one_become_one(product: Product) -> None:
    words = random.Random(7).choices(WORDS, k=60)
    chain = []
    for step in range(9):
        words[step * 5] = "zebra"
        chain.append(" ".join(words))
    ends = [
        row("a", chain[0], split="train"),
        row("b", chain[0] + " now", split="train"),
        row("z", chain[8], split="test"),
    ]
    dataset_id = await product.filled(*ends)
    assert (await product.get(f"datasets/{dataset_id}"))["counts"]["near_duplicates"] == 1
    for step in range(1, 8):
        await added(product, dataset_id, row(f"m{step}", chain[step]))
    found = (await product.get(f"datasets/{dataset_id}/conversations"))["items"]
    assert len({one["group_id"] for one in found}) == 1
    assert {one["split"] for one in found} == {"test"}
    await check_counts(product, dataset_id)


@pytest.mark.seconds
async def test_counts_follow_whatever_is_done(product: Product) -> None:
    """A long walk of additions, labels and deletions, with texts that are often near each other."""
    rng = random.Random(11)
    dataset_id = await product.dataset()
    alive: list[str] = []
    for step in range(60):
        text = random.Random(rng.randrange(6)).choices(WORDS, k=20)
        text[rng.randrange(20)] = rng.choice(WORDS)
        action = rng.random()
        if action < 0.6 or not alive:
            split = rng.choice([None, "train", "test", "validation"])
            body = row(f"c{step}", " ".join(text), rng.choice(["refund", "delivery", None]), split=split)
            if rng.random() < 0.3:
                del body["category"]
            alive.append((await added(product, dataset_id, body))["id"])
        elif action < 0.85:
            chosen = rng.choice(["refund", "delivery", None])
            assert (await label(product, rng.choice(alive), chosen)).status_code == 200
        else:
            gone = alive.pop(rng.randrange(len(alive)))
            assert (await product.client.delete(f"/v1/conversations/{gone}")).status_code == 200
    await check_counts(product, dataset_id)
    assert (await product.get(f"datasets/{dataset_id}"))["counts"]["conversations"] == len(alive)


async def test_a_deleted_conversation_is_gone_and_names_the_models_made_with_it(product: Product) -> None:
    dataset_id = await product.filled(row("a", "give it back"), row("b", "where is the parcel", "delivery"))
    model_id = await _train(product, UUID(dataset_id))
    late = await added(product, dataset_id, row("c", "something new came in later on"))
    found = {
        one["external_id"]: one
        for one in (await product.get(f"datasets/{dataset_id}/conversations"))["items"]
    }
    gone = await product.client.delete(f"/v1/conversations/{found['a']['id']}")
    assert (gone.status_code, gone.json()["model_versions"]) == (200, [str(model_id)])
    assert (await product.client.get(f"/v1/conversations/{found['a']['id']}")).status_code == 404
    assert (await product.client.delete(f"/v1/conversations/{found['a']['id']}")).status_code == 404
    assert (await product.client.delete(f"/v1/conversations/{late['id']}")).json()["model_versions"] == []
    await check_counts(product, dataset_id)
    again = await added(product, dataset_id, row("a", "give it back"))
    assert again["id"] != found["a"]["id"]


async def test_a_dataset_that_runs_were_made_from_stays(product: Product) -> None:
    dataset_id = await product.filled(row("a", "give it back"))
    await _train(product, UUID(dataset_id))
    refused = await product.client.delete(f"/v1/datasets/{dataset_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "dataset_in_use")


async def test_nothing_changes_while_a_file_is_being_checked(product: Product) -> None:
    dataset_id = await product.dataset()
    await product.put(dataset_id, b'{"id": "a"}\n')
    for answer in (
        await append(product, dataset_id, row("b", "hello")),
        await product.client.delete(f"/v1/datasets/{dataset_id}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "dataset_busy")


async def test_a_file_does_not_come_into_a_dataset_that_has_conversations(product: Product) -> None:
    dataset_id = await product.dataset()
    await added(product, dataset_id, row("a", "give it back"))
    assert (await product.put(dataset_id, b"x")).json()["code"] == "dataset_has_content"


async def _train(product: Product, dataset_id: UUID) -> UUID:
    whose = {"tenant_id": product.scope.tenant_id}
    run = Run(
        id=uuid4(), schema_version_id=product.version.id, dataset_id=dataset_id, base="starter", settings={},
        snapshot_key="snapshots/1", snapshot_sha256="0" * 64, **whose,
    )  # fmt: skip
    model = ModelVersion(
        id=uuid4(), run_id=run.id, schema_version_id=product.version.id, base_sha256="0" * 64,
        adapter_sha256="1" * 64, adapter_key="adapters/1", stages=[], **whose,
    )  # fmt: skip
    async with transaction(product.database, product.scope) as session:
        session.add(run)
        await session.flush()
        session.add(model)
    return model.id
