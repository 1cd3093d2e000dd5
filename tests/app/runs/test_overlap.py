"""A run never learns from what its gate asks, however the dataset came to be as it is."""

import json
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import update

from app.infra.db.session import transaction
from app.infra.tables.datasets import ConversationRow
from app.infra.tables.jobs import JobState
from app.jobs import service as jobs
from app.runs.folders import folder_of
from tests.app.runs.conftest import Shop

pytestmark = pytest.mark.anyio


async def straddle(shop: Shop, dataset_id: str, learned: str, held_out: str) -> None:
    """Give one conversation the words of another. No request does that: placing puts equal texts into one split."""
    text = (await named(shop, dataset_id, held_out))["messages"][0]["text"]
    words = [{"role": "customer", "text": f"{text.upper()}!"}]
    async with transaction(shop.database, shop.scope) as session:
        await session.execute(
            update(ConversationRow)
            .where(ConversationRow.tenant_id == shop.scope.tenant_id, ConversationRow.external_id == learned)
            .values(messages=words)
        )


async def named(shop: Shop, dataset_id: str, external_id: str) -> dict[str, list[dict[str, str]]]:
    found = (await shop.get(f"datasets/{dataset_id}/conversations?limit=100"))["items"]
    return next(one for one in found if one["external_id"] == external_id)


async def events(shop: Shop, run_id: str) -> list[str]:
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        rows = await jobs.events_of_run(session, shop.scope, UUID(run_id), 0)
    return [str(row.event.get("message")) for row in rows]


@pytest.mark.seconds
async def test_a_conversation_that_says_what_a_held_out_one_says_is_not_trained_on(shop: Shop) -> None:
    dataset_id = await shop.dataset()
    await straddle(shop, dataset_id, "train-3", "test-5")
    run = await shop.run(dataset_id=dataset_id)
    for number, kind in enumerate(("traces", "sft"), start=1):
        job = await shop.work(run["id"], kind)
        assert job.state is JobState.succeeded, job.error
        stage = folder_of(shop.settings, UUID(run["id"])).stage(number, kind)
        manifest = json.loads((stage / "manifest.json").read_text())
        lines = Path(manifest["conversations"]).read_text().splitlines()
        learned = [json.loads(line)["id"] for line in lines]
        assert len(learned) == 29 and "train-3" not in learned
    said = "1 training conversations are left out: they say what a held-out one says (ids 'train-3')"
    assert (await events(shop, run["id"])).count(said) == 1


@pytest.mark.seconds
async def test_too_few_that_are_left_end_the_run_with_the_reason(shop: Shop) -> None:
    dataset_id = await shop.dataset(train=20)
    await straddle(shop, dataset_id, "train-3", "test-5")
    run = await shop.run(dataset_id=dataset_id)
    await shop.work(run["id"], "traces")
    ended = await shop.get(f"runs/{run['id']}")
    assert ended["state"] == "failed" and shop.starts() == []
    assert ended["error"]["details"] == [
        "the split train has 19 labelled conversations and needs 20",
        "1 training conversations are left out: they say what a held-out one says (ids 'train-3')",
    ]
