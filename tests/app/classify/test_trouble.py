"""What goes wrong around an answer: no database connection waits for a model, and nothing stays broken by itself."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial

import httpx
import pytest
import uvicorn
from sqlalchemy.ext.asyncio import create_async_engine

from app.http import limits
from app.http.turns import Turns
from app.infra.db.engine import open_database
from app.main import create_app
from app.serving.replica import Replica
from app.settings import Settings
from tests.app.classify.serving_contexts import (
    Live,
    deployed,
    hanging_up,
    model_server,
    plug_in,
    plug_in_one,
    replug,
)
from tests.callers import Callers
from tests.evaluation.fake_server import FakeServer
from tests.servers.postgres import as_platform

pytestmark = pytest.mark.anyio


class Door:
    """The model server waits here, once as many requests as `expected` have come, until it is opened."""

    def __init__(self, expected: int = 1):
        self.expected, self.inside, self.left = expected, 0, 0
        self.all_inside, self.opened = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        self.inside += 1
        if self.inside >= self.expected:
            self.all_inside.set()
        try:
            await self.opened.wait()
        finally:
            self.left += 1


@contextmanager
def listening(server: FakeServer, port: int) -> Iterator[None]:
    config = uvicorn.Config(server, host="127.0.0.1", port=port, log_level="warning", lifespan="off")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield
    finally:
        running.should_exit = True
        thread.join()


async def test_with_one_database_connection_many_conversations_are_at_the_model_at_once(
    settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = partial(create_async_engine, pool_size=1, max_overflow=0, pool_timeout=5)
    monkeypatch.setattr("app.infra.db.engine.create_async_engine", one)
    database = open_database(database_url, as_platform(database_url))
    api = create_app(settings, database)
    door = Door(expected=6)
    async with AsyncExitStack() as until:
        until.push_async_callback(database.close)
        await until.enter_async_context(api.router.lifespan_context(api))
        callers = Callers(api, database, until)
        live = await deployed(callers)
        await plug_in(callers, model_server(before=door))
        posts = [live.client.post("/v1/classify", json=live.question()) for _ in range(4)]
        posts += [live.client.post("/v1/classify/stream", json=live.question()) for _ in range(2)]
        asking = [asyncio.create_task(post) for post in posts]
        await asyncio.wait_for(door.all_inside.wait(), 60)
        assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        me = await live.client.get("/v1/me")
        door.opened.set()
        assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200] * 6
        assert me.status_code == 200


async def test_a_model_server_that_was_away_is_used_again_as_soon_as_it_is_back(
    live: Live, callers: Callers
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (replica,) = callers.api.state.serving_context.replicas.all
    replica.client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)
    away = await live.client.post("/v1/classify", json=live.question())
    assert (away.status_code, away.json()["code"]) == (503, "serving_away")
    assert int(away.headers["retry-after"]) >= 1
    with listening(model_server(), port):
        await asyncio.sleep(1.1)
        back = await live.client.post("/v1/classify", json=live.question())
    assert (back.status_code, back.json()["category"]) == (200, "delivery")


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/classify/stream"])
async def test_where_one_replica_is_away_another_answers(live: Live, callers: Callers, path: str) -> None:
    serving_context = callers.api.state.serving_context
    (away,) = serving_context.replicas.all
    there = Replica("http://127.0.0.1:10", serving_context.settings)
    serving_context.replicas.all = (away, there)
    await plug_in_one(there, model_server())
    there.busy = 1  # so that the other one is tried first
    answer = await live.client.post(path, json=live.question())
    assert answer.status_code == 200 and "delivery" in answer.text
    assert not away.may_have(live.told.model.adapter_sha256)


async def test_a_replica_that_has_not_loaded_the_model_yet_is_asked_to_be_waited_for(
    live: Live, callers: Callers
) -> None:
    await plug_in(callers, model_server(failing=(404,)))
    away = await live.client.post("/v1/classify", json=live.question())
    assert (away.status_code, away.json()["code"]) == (503, "serving_away")


async def test_where_the_client_hangs_up_the_model_stops_too(live: Live, callers: Callers) -> None:
    door = Door()
    server = model_server(before=door)
    await plug_in(callers, server)
    body = httpx.Request("POST", "http://x", json=live.question()).content
    headers = httpx.Headers({**live.client.headers, "content-type": "application/json"})
    for path in ("/v1/classify", "/v1/classify/stream"):
        door.all_inside.clear()
        async with hanging_up(callers, path, headers, body, door.all_inside.wait) as sent:
            assert [message["status"] for message in sent if "status" in message] == [499]
    assert (door.inside, door.left) == (2, 2)
    assert server.bodies == []  # it was cancelled before it had an answer
    assert callers.api.state.serving_context.limits.turns.taken == 0
    assert callers.api.state.serving_context.replicas.all[0].busy == 0


async def test_a_model_server_that_never_answers_is_not_waited_for_for_ever(
    live: Live, callers: Callers
) -> None:
    door = Door()
    await plug_in(callers, model_server(before=door))
    serving_context = callers.api.state.serving_context
    hurried = serving_context.settings.model_copy(update={"answer_timeout_s": 0.2})
    callers.api.state.serving_context = serving_context._replace(settings=hurried)
    for path in ("/v1/classify", "/v1/classify/stream"):
        late = await live.client.post(path, json=live.question())
        assert (late.status_code, late.json()["code"]) == (503, "serving_away")
    assert door.left == door.inside == 2


async def test_more_than_we_can_answer_at_once_waits_a_moment_for_its_turn_and_is_refused(
    live: Live, callers: Callers, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving_context = callers.api.state.serving_context
    serving_context.limits.turns = Turns(1, 1)
    monkeypatch.setattr(limits, "TURN_S", 0.05)
    door = Door()
    await plug_in(callers, model_server(before=door))
    first = asyncio.create_task(live.client.post("/v1/classify", json=live.question()))
    await door.all_inside.wait()
    second = await live.client.post("/v1/classify", json=live.question())
    stranger = await deployed(callers)
    other = await stranger.client.post("/v1/classify", json=stranger.question())
    door.opened.set()
    assert (second.status_code, second.json()["code"]) == (429, "share_exceeded")
    assert (other.status_code, other.json()["code"]) == (503, "unavailable")
    assert second.headers["retry-after"] == other.headers["retry-after"] == "1"
    assert (await first).status_code == 200


async def test_an_answer_that_is_no_chat_completion_is_our_trouble(live: Live, callers: Callers) -> None:
    async def nonsense(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"choices": []})

    await replug(callers, httpx.MockTransport(nonsense))
    refused = await live.client.post("/v1/classify", json=live.question())
    assert (refused.status_code, refused.json()["code"]) == (503, "serving_away")
