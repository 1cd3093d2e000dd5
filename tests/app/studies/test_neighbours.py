"""The noise that a tenant makes in the bench of neighbours, and the model server that it is made before."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from app.errors import InputError, ServingError
from app.settings import Settings
from app.studies import neighbours
from app.studies.model_server import AdapterPlaces
from app.studies.noise import Noise, NoisyTenant
from tests.app.studies.quiet import QUIET

pytestmark = pytest.mark.anyio


def tenant(answer: Callable[[httpx.Request], httpx.Response]) -> NoisyTenant:
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://x")
    settings = Settings(tenant_in_flight=1, tenant_streams=2)
    return NoisyTenant(client, settings, "Where is it?", uuid4(), "dataset", ["file"] * 8, "run", [uuid4()])


async def made(kind: str, answer: Callable[[httpx.Request], httpx.Response]) -> Counter[str]:
    got = Counter[str]()
    async with Noise(tenant(answer), kind, got):
        await asyncio.sleep(0.02)
    return got


@pytest.mark.parametrize(
    ("kind", "at_once"), [("classify", 2), ("batches", 8), ("uploads", 8), ("runs", 8), ("streams", 4)]
)
async def test_each_kind_asks_for_more_than_its_share_and_waits_a_moment_when_refused(
    kind: str, at_once: int
) -> None:
    got = await made(kind, lambda _: httpx.Response(429, json={"code": "share_exceeded"}))
    assert got == {"refused: share_exceeded": at_once}


async def test_a_server_that_is_full_or_gone_is_a_refusal() -> None:
    assert await made("classify", lambda _: httpx.Response(503)) == {"refused: 503": 2}

    def gone(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("closed")

    assert await made("classify", gone) == {"refused: the connection was closed": 2}


async def test_noise_that_breaks_is_no_silence() -> None:
    with pytest.raises(json.JSONDecodeError):
        await made("batches", lambda _: httpx.Response(200, text="no JSON"))


def test_a_noise_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="there is no noise 'drums'; there are classify, batches"):
        neighbours.measure(2, 20, Settings(), QUIET, ["drums"])


def test_a_worker_that_dies_is_no_quiet_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def dies(_: Settings) -> list[UUID]:
        raise RuntimeError("the database is gone")

    monkeypatch.setattr(neighbours, "_due", dies)
    monkeypatch.setattr(neighbours, "_WORK_EVERY_S", 0.001)
    monkeypatch.setattr(neighbours, "load_handlers", lambda: None)
    with (
        pytest.raises(RuntimeError, match="the database is gone"),
        neighbours.worker(Settings(home=tmp_path)) as working,
    ):
        wait([working], timeout=10)


async def test_a_file_that_nobody_reads_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = httpx.Response(200, json={"state": "validating"})
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer), base_url="http://x")
    monkeypatch.setattr(neighbours, "_READ_WITHIN_S", 0.01)
    monkeypatch.setattr(neighbours, "_WORK_EVERY_S", 0.02)
    with pytest.raises(ServingError, match="was not read within"):
        await neighbours._until_ready(client, "/v1/datasets/1", Future())
    dead = Future[None]()
    dead.set_exception(RuntimeError("it died"))
    with pytest.raises(RuntimeError, match="it died"):
        await neighbours._until_ready(client, "/v1/datasets/1", dead)


def test_the_model_server_has_so_many_places_and_answers_for_nothing_else() -> None:
    server = AdapterPlaces(1)
    load, unload = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
    assert server.answer(load, {"lora_name": "a"}) == (200, {})
    for full in ("a", "b"):
        status, _ = server.answer(load, {"lora_name": full}) or (0, None)
        assert status == 400
    assert server.answer("/v1/chat/completions", {"model": "a"}) is None
    status, _ = server.answer("/v1/chat/completions", {"model": "b"}) or (0, None)
    assert status == 404
    assert server.answer(unload, {"lora_name": "a"}) == (200, {})
    listed = server.answer("/v1/models", {})
    assert listed is not None and len(listed[1]["data"]) == 1  # the base
