"""The reasoning as it is written, then the answer; until the first piece is there, an error is an ordinary one."""

import json
from typing import Any

import httpx
import pytest

from tests.app.classify.serving_contexts import SAID, Live, model_server, plug_in
from tests.callers import Callers
from tests.evaluation.fake_server import FakeServer

pytestmark = pytest.mark.anyio


async def streamed(live: Live) -> httpx.Response:
    return await live.client.post("/v1/classify/stream", json=live.question())


def events(response: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_the_reasoning_comes_in_pieces_and_then_the_answer(live: Live, server: FakeServer) -> None:
    response = await streamed(live)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    *pieces, (last, answer) = events(response)
    assert {name for name, _ in pieces} == {"reasoning"} and len(pieces) > 3
    assert "".join(piece["text"] for _, piece in pieces) == SAID
    assert last == "answer"
    at_once = (await live.client.post("/v1/classify", json=live.question())).json()
    differs = ("id", "latency_ms")
    assert {k: v for k, v in answer.items() if k not in differs} == {
        k: v for k, v in at_once.items() if k not in differs
    }


async def test_a_model_server_that_breaks_off_ends_the_stream_with_a_problem(
    live: Live, callers: Callers
) -> None:
    await plug_in(callers, model_server(cut=6))
    *pieces, (last, problem) = events(await streamed(live))
    assert pieces and {name for name, _ in pieces} == {"reasoning"}
    assert (last, problem["status"], problem["code"]) == ("problem", 503, "serving_away")


async def test_a_model_server_that_is_away_is_a_status_and_not_an_event(live: Live, callers: Callers) -> None:
    refused = await streamed(live)
    assert (refused.status_code, refused.json()["code"]) == (503, "serving_away")
    assert refused.headers["content-type"] == "application/problem+json"


async def test_a_question_that_cannot_be_asked_is_a_status_too(live: Live, server: FakeServer) -> None:
    body = live.question("where is it " * 8000)
    refused = await live.client.post("/v1/classify/stream", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "conversation_too_long")
