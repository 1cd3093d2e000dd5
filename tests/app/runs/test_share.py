"""What one tenant may hold: where it ends, what is said then, and that the next tenant does not feel it."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.infra.db.session import transaction
from app.infra.tables.tenants import HeldKind, Tenant
from app.settings import Settings
from app.tenants import repository, share
from tests.app.runs.conftest import Shop

pytestmark = pytest.mark.anyio


def share_exceeded(answer: httpx.Response) -> bool:
    code = answer.json().get("code")
    return (answer.status_code, code) == (429, "share_exceeded") and int(answer.headers["retry-after"]) > 0


async def set_quota(shop: Shop, quota_bytes: int) -> None:
    async with transaction(shop.database, shop.scope) as session:
        (await session.get_one(Tenant, shop.scope.tenant_id)).upload_quota_bytes = quota_bytes


async def held(shop: Shop) -> dict[HeldKind, int]:
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        found = await repository.held_bytes(session, shop.scope)
    sums = dict.fromkeys(HeldKind, 0)
    for (kind, _), size in found.items():
        sums[kind] += size
    return sums


def change(shop: Shop, **values: Any) -> None:
    api = shop.callers.api
    api.state.settings = api.state.settings.model_copy(update=values)


async def test_so_many_runs_of_a_tenant_are_open_at_once(shop: Shop) -> None:
    change(shop, tenant_open_runs=2)
    order = await shop.order()
    made = [await shop.client.post("/v1/runs", json=order) for _ in range(3)]
    assert [answer.status_code for answer in made] == [202, 202, 429] and share_exceeded(made[2])
    await shop.client.post(f"/v1/runs/{made[0].json()['id']}/cancel")
    both = await asyncio.gather(*(shop.client.post("/v1/runs", json=order) for _ in range(2)))
    assert sorted(answer.status_code for answer in both) == [202, 429]


@pytest.mark.seconds
async def test_a_tenant_that_has_had_its_time_on_the_gpus_starts_no_more(shop: Shop) -> None:
    run = await shop.run()
    await shop.work(run["id"], "traces")
    change(shop, tenant_gpu_s_per_day=0.000_001)
    refused = await shop.client.post("/v1/runs", json=await shop.order(dataset_id=run["dataset_id"]))
    assert share_exceeded(refused)


async def test_whatever_is_kept_counts_against_the_quota_and_counts_no_longer_once_it_is_gone(
    shop: Shop,
) -> None:
    before = await held(shop)
    assert before[HeldKind.draft] > 0 and before[HeldKind.versions] > 0
    body = {"name": "one by one", "schema_id": shop.schema_id}
    dataset_id = (await shop.client.post("/v1/datasets", json=body)).json()["id"]
    place = f"/v1/datasets/{dataset_id}/conversations"
    await set_quota(shop, sum(before.values()) + 1000)
    text = "where is my parcel " * 20
    codes = []
    for number in range(4):
        row = {"id": str(number), "messages": [{"role": "customer", "text": f"{number} {text}"}]}
        answer = await shop.client.post(place, json=row)
        codes.append(answer.status_code)
    assert codes == [201, 201, 409, 409] and answer.json()["code"] == "upload_quota_exceeded"
    again = await shop.client.post(
        place, json={"id": "0", "messages": [{"role": "customer", "text": f"0 {text}"}]}
    )
    assert again.status_code == 200  # what is there already costs nothing
    draft = {"none_of_these": True, "categories": [], "question": "x" * 400}
    big = await shop.client.post("/v1/schemas", json={"name": "another", "draft": draft})
    assert (big.status_code, big.json()["code"]) == (409, "upload_quota_exceeded")
    first = (await shop.client.get(place)).json()["items"][-1]["id"]
    await shop.client.delete(f"/v1/conversations/{first}")
    assert (await shop.client.post(place, json=row)).status_code == 201
    await shop.client.delete(f"/v1/datasets/{dataset_id}")
    assert await held(shop) == before


async def test_files_that_do_not_say_how_long_they_are_cannot_together_pass_the_quota(shop: Shop) -> None:
    """Each sends in pieces of a size that alone would fit."""
    await set_quota(shop, sum((await held(shop)).values()) + 3_000_000)
    released = asyncio.Event()

    async def body() -> Any:
        for _ in range(2):
            yield b"x" * 1_000_000
        await released.wait()

    async def send(dataset_id: str) -> int:
        headers = {"Content-Type": "application/jsonl"}
        path = f"/v1/datasets/{dataset_id}/content"
        answer = await shop.client.put(path, content=body(), headers=headers)
        return answer.status_code

    named = {"name": "hidden", "schema_id": shop.schema_id}
    ids = [(await shop.client.post("/v1/datasets", json=named)).json()["id"] for _ in range(3)]
    sending = [asyncio.create_task(send(dataset_id)) for dataset_id in ids]
    await asyncio.sleep(1)
    kept = await held(shop)
    assert kept[HeldKind.upload] <= 3_000_000
    released.set()
    codes = sorted(await asyncio.gather(*sending))
    assert codes.count(202) == 1 and set(codes) == {202, 409}
    assert (await held(shop))[HeldKind.upload] == 2_000_000


async def test_two_at_once_cannot_both_take_what_is_left(shop: Shop) -> None:
    await set_quota(shop, sum((await held(shop)).values()) + 100)

    async def take() -> bool:
        try:
            async with transaction(shop.database, shop.scope) as session:
                await share.hold(session, shop.scope, HeldKind.upload, uuid4(), 60)
        except share.QuotaExceeded:
            return False
        return True

    assert sorted(await asyncio.gather(take(), take())) == [False, True]


def test_the_shares_of_several_tenants_fit_the_defaults() -> None:
    """One that holds all of its share leaves most of the installation to the others."""
    found = Settings()
    assert found.tenant_in_flight * 4 <= found.max_in_flight
    assert found.tenant_streams * 4 <= found.max_streams
    assert found.tenant_adapters < found.vllm_max_adapters
