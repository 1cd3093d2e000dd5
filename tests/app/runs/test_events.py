"""The events of a run, read from a real server, since that is where a stream can hang or hold something."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn

from app.auth.principal import Scope
from app.infra.db.session import transaction
from app.jobs import service as jobs
from app.runs import feed, stream
from tests.app.runs.conftest import Shop

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def server(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(shop.callers.api, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    serving = asyncio.create_task(running.serve([listening]))
    key = await shop.callers.key_of(shop.scope, Scope.runs_read)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        headers = {"Authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            yield client
    finally:
        running.should_exit = True
        await serving


async def read(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """Events as a listener understands them; a comment is one without fields."""
    event: dict[str, Any] = {}
    async for line in response.aiter_lines():
        if line.startswith(":"):
            event["comment"] = line
        elif line:
            name, _, value = line.partition(": ")
            event[name] = value
        else:
            yield event
            event = {}


@asynccontextmanager
async def listening(
    client: httpx.AsyncClient, run_id: str, after: str | None = None
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    headers = {} if after is None else {"Last-Event-ID": after}
    async with client.stream("GET", f"/v1/runs/{run_id}/events", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        yield (event async for event in read(response) if "comment" not in event)


async def all_of(client: httpx.AsyncClient, run_id: str, after: str | None = None) -> list[dict[str, Any]]:
    async with asyncio.timeout(100), listening(client, run_id, after) as events:
        return [event async for event in events]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_S", 0.1)


@pytest.mark.seconds
async def test_events_come_as_they_happen_and_end_with_the_run(shop: Shop) -> None:
    run = await shop.run()
    async with server(shop) as client:
        reading = asyncio.create_task(all_of(client, run["id"]))
        await shop.work(run["id"], "traces")
        await shop.client.post(f"/v1/runs/{run['id']}/cancel")
        events = await reading
        *told, end = events
        assert [event["event"] for event in told if event["event"] != "metric"] == [
            *["queued"], *["blocked"] * 3, "started", *["progress"] * 2, "succeeded", "queued", *["cancelled"] * 3
        ]  # fmt: skip
        assert end["event"] == "end" and "id" not in end
        assert json.loads(end["data"]) == {"state": "cancelled", "model_version_id": None, "error": None}
        ids = [int(event["id"]) for event in told]
        assert ids == sorted(set(ids))
        metrics = [json.loads(event["data"]) for event in told if event["event"] == "metric"]
        assert metrics[0]["stage"] == "traces" and metrics[0]["metrics"]["loss"] == 1.0
        assert metrics[-1]["step"] == 6
        done = json.loads(next(event["data"] for event in told if event["event"] == "succeeded"))
        assert set(done["result"]) == {"sha256", "metrics", "seconds"}
        # A listener that goes on after any event misses nothing and hears nothing twice.
        for place in (0, len(told) // 2, len(told) - 1):
            assert await all_of(client, run["id"], told[place]["id"]) == events[place + 1 :]


async def test_more_events_than_come_at_once_come_in_their_order(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await shop.run()
    await shop.client.post(f"/v1/runs/{run['id']}/cancel")
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        rows = await jobs.events_of_run(session, shop.scope, UUID(run["id"]))
    monkeypatch.setattr(feed, "EVENTS_AT_ONCE", 3)
    few = jobs.events_of_run
    monkeypatch.setattr(jobs, "events_of_run", lambda s, c, r, a: few(s, c, r, a, 3))
    async with server(shop) as client:
        events = await all_of(client, run["id"])
    assert [event.get("id") for event in events] == [*(str(row.id) for row in rows), None]


async def test_a_listener_that_waits_hears_that_the_stream_lives_and_holds_no_connection(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(feed, "POLL_S", 0.5)
    run = await shop.run()
    async with (
        server(shop) as client,
        asyncio.timeout(60),
        client.stream("GET", f"/v1/runs/{run['id']}/events") as response,
    ):
        events = read(response)
        comments, free = 0, 0
        while comments < 4:
            comments += "comment" in await anext(events)
            free += shop.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of a QueuePool
    assert free > 0


async def test_the_place_to_go_on_is_a_number(shop: Shop) -> None:
    run = await shop.run()
    headers = {"Last-Event-ID": "first"}
    refused = await shop.client.get(f"/v1/runs/{run['id']}/events", headers=headers)
    assert refused.status_code == 422


@pytest.mark.seconds
async def test_many_who_listen_to_a_run_cost_the_database_what_one_does(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await shop.run()
    reads = 0
    read = feed.RunFeed.read

    async def counted(self: feed.RunFeed, after: int) -> feed.NewEvents:
        nonlocal reads
        reads += 1
        return await read(self, after)

    monkeypatch.setattr(feed.RunFeed, "read", counted)
    monkeypatch.setattr(feed, "POLL_S", 0.3)
    async with server(shop) as client:
        reading = [asyncio.create_task(all_of(client, run["id"])) for _ in range(10)]
        await asyncio.sleep(3)
        assert 1 <= reads <= 12
        await shop.client.post(f"/v1/runs/{run['id']}/cancel")
        heard = await asyncio.gather(*reading)
        assert all(events == heard[0] for events in heard) and heard[0][-1]["event"] == "end"
    assert shop.callers.api.state.run_feeds._feeds == {}


async def test_a_tenant_has_so_many_streams_and_the_others_have_theirs(shop: Shop) -> None:
    run = await shop.run()
    feeds = shop.callers.api.state.run_feeds
    feeds._places.of_one = 2
    async with (
        server(shop) as client,
        listening(client, run["id"]),
        listening(client, run["id"]),
        asyncio.timeout(60),
    ):
        refused = await client.get(f"/v1/runs/{run['id']}/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "share_exceeded")
        assert refused.headers["retry-after"] == "1"
    async with server(shop) as client, listening(client, run["id"]):  # what was closed counts no longer
        pass
    assert feeds._places._held == {}
