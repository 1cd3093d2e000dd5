"""One tenant that asks for all there is, and another that finds its place all the same."""

import asyncio
from pathlib import Path

import pytest

from app.http.turns import WAITING_PER_PLACE
from app.settings import Settings
from tests.app.classify.serving_contexts import TEXT, deployed, model_server, plug_in
from tests.app.classify.test_trouble import Door
from tests.callers import Callers

pytestmark = pytest.mark.anyio
ITEMS, SHARE = 8, 4
BATCHES = 1 + WAITING_PER_PLACE  # each asks as many at once as the share is, so as many items wait as may


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        storage_url=str(tmp_path / "storage"),
        vllm_urls=("http://127.0.0.1:9",),
        max_in_flight=6,
        tenant_in_flight=SHARE,
    )


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_batches_of_one_tenant_leave_the_others_their_places(callers: Callers) -> None:
    noisy, quiet = await deployed(callers), await deployed(callers)
    door = Door(expected=SHARE)
    await plug_in(callers, model_server(before=door))
    items = [{"id": str(number), "text": TEXT} for number in range(ITEMS)]
    body = {"schema_id": noisy.schema_id, "items": items}
    batches = [
        asyncio.create_task(noisy.client.post("/v1/classify/batch", json=body)) for _ in range(BATCHES)
    ]
    async with asyncio.timeout(60):
        await door.all_inside.wait()
    turns = callers.api.state.serving_context.limits.turns
    assert turns.taken == SHARE
    asking = asyncio.create_task(quiet.client.post("/v1/classify", json=quiet.question()))
    async with asyncio.timeout(60):
        while door.inside <= SHARE:
            await asyncio.sleep(0.01)
    # So much of it waits that another batch would be kept for nothing.
    refused = await noisy.client.post("/v1/classify/batch", json=body)
    assert (refused.status_code, refused.json()["code"]) == (429, "share_exceeded")
    assert refused.headers["retry-after"] == "1"
    door.opened.set()
    assert (await asking).status_code == 200
    for batch in batches:
        results = (await batch).json()["results"]
        kinds = {"answered" if result["answer"] else result["problem"]["code"] for result in results}
        assert kinds <= {"answered", "share_exceeded"}
    assert turns.taken == 0
