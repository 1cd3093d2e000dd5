"""Many conversations in one request: each is answered, or told why not, on its own."""

from typing import Any

import pytest

from app.settings import Settings
from tests.app.classify.serving_contexts import TEXT, Live, model_server, plug_in
from tests.callers import Callers
from tests.evaluation.fake_server import Asked, FakeServer, Reply, says

pytestmark = pytest.mark.anyio


def batch(live: Live, *items: dict[str, Any]) -> dict[str, Any]:
    return {"schema_id": live.schema_id, "items": list(items)}


async def test_what_is_wrong_with_one_item_is_no_matter_of_the_others(live: Live, server: FakeServer) -> None:
    items = [
        {"id": "good", "text": TEXT},
        {"id": "nobody speaks", "messages": [{"role": "agent", "text": "hello"}]},
        {"id": "both", "text": TEXT, "messages": [{"role": "customer", "text": TEXT}]},
        {"id": "long", "text": "where is it " * 8000},
        {"id": "good too", "text": "I want my money back"},
    ]
    response = await live.client.post("/v1/classify/batch", json=batch(live, *items))
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert [result["id"] for result in results] == [item["id"] for item in items]
    assert [result["problem"] and result["problem"]["code"] for result in results] == [
        None,
        "invalid_request",
        "invalid_request",
        "conversation_too_long",
        None,
    ]
    assert [result["answer"] and result["answer"]["category"] for result in results] == [
        "delivery",
        None,
        None,
        None,
        "refund",
    ]
    assert results[1]["problem"]["problems"][0]["where"] == "body.items[1]"
    assert results[1]["problem"]["request_id"] == response.headers["x-request-id"]


async def test_an_item_that_the_model_server_fails_is_told_so(live: Live, callers: Callers) -> None:
    def model(asked: Asked) -> Reply:
        return says("B")

    server = model_server(model, failing=(400,))
    await plug_in(callers, server)
    items = [{"id": str(number), "text": TEXT} for number in range(3)]
    results = (await live.client.post("/v1/classify/batch", json=batch(live, *items))).json()["results"]
    failed = [result["problem"] for result in results if result["problem"]]
    assert [(problem["status"], problem["code"]) for problem in failed] == [(503, "serving_away")]
    assert sum(result["answer"] is not None for result in results) == 2


async def test_a_batch_that_nobody_can_answer_is_refused_as_a_whole(live: Live, callers: Callers) -> None:
    response = await live.client.post("/v1/classify/batch", json=batch(live, {"id": "1", "text": TEXT}))
    assert (response.status_code, response.json()["code"]) == (503, "serving_away")
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    "items",
    [
        [],
        [{"id": str(number), "text": "hi"} for number in range(257)],
        [{"id": "same", "text": "a"}, {"id": "same", "text": "b"}],
        [{"text": "without an id"}],
    ],
)
async def test_a_batch_has_1_to_256_items_each_with_an_id_of_its_own(
    live: Live, server: FakeServer, items: list[dict[str, Any]]
) -> None:
    refused = await live.client.post("/v1/classify/batch", json=batch(live, *items))
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert server.bodies == []


async def test_a_batch_counts_as_many_conversations(live: Live, callers: Callers, server: FakeServer) -> None:
    limits = callers.api.state.serving_context.limits
    limits._own.burst, limits._own.rate_per_s = 3, 0.001
    items = [{"id": str(number), "text": TEXT} for number in range(4)]
    refused = await live.client.post("/v1/classify/batch", json=batch(live, *items))
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert (await live.client.post("/v1/classify/batch", json=batch(live, *items[:3]))).status_code == 200


def test_a_batch_of_the_largest_size_fits_the_smallest_burst_that_may_be_set() -> None:
    from app.classify.payloads import MAX_BATCH

    (least,) = (m.ge for m in Settings.model_fields["tenant_burst"].metadata if hasattr(m, "ge"))
    assert least >= MAX_BATCH
