"""What one tenant feels of another that asks for all it can get, with the shares and turns of the settings as they are.

A model server of fixed latency stands behind the API, so that nothing but the service itself can make an answer late.
A quiet tenant asks one conversation after the other in a few places; in every second round a noisy one sends batches
besides, more than its share has places for, and asks again a moment after it was refused. Quiet and noisy rounds take
turns, and each pair gives a ratio of the quiet tenant's 99th percentiles.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from pydantic import BaseModel
from rich.table import Table

from app.cli.console import Progress
from app.infra.db import migrate
from app.infra.db.engine import open_database
from app.local import recipes
from app.local.redis import embedded_redis
from app.serving.base import STARTER, codes_for, find_base
from app.settings import Settings
from app.studies.api import RANK, api_running, interval
from app.studies.model_server import model_server
from app.studies.untrained import Installation, install, write_adapter
from training.starter.world import demo_tenant

MODEL_S = 1.0  # of every answer of the model server
QUIET_AT_ONCE = 4
BATCHES_AT_ONCE = 8
BATCH = 64
PAUSE_S = 0.1  # after a refusal
WARM_UP = 8
TEXT = "Where is my parcel? I ordered it a week ago."


class Neighbours(BaseModel):
    """Of the quiet tenant, in milliseconds; p99_ratio: noisy rounds over quiet ones, geometric mean over the pairs."""

    p99_ratio: float
    p99_ratio_95: tuple[float, float]  # by Student's t on its logarithm over the pairs
    quiet_p50_ms: float
    quiet_p99_ms: float
    noisy_p50_ms: float
    noisy_p99_ms: float
    failed: int  # requests of the quiet tenant that were not answered, in all rounds
    noise: dict[str, int]  # what the noisy tenant got, by status and code
    round_ratios: list[float]
    requests: int  # of the quiet tenant, in each round
    rounds: int
    model_latency_ms: float
    tenant_in_flight: int
    max_in_flight: int
    processors: int


class Neighbour(NamedTuple):
    client: httpx.AsyncClient
    body: dict[str, Any]


def measure(rounds: int, requests: int, settings: Settings, progress: Progress) -> Neighbours:
    """rounds: pairs, at least 2. requests: of the quiet tenant in each round."""
    with tempfile.TemporaryDirectory(prefix="steerwise-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        changes = {"home": home, "base": STARTER, "host": "127.0.0.1", "port": recipes.free_port()}
        changes |= {"database_url": f"sqlite:///{home}/neighbours.db", "storage_url": str(home / "storage")}
        base, told = find_base(STARTER), demo_tenant(0)
        codes = codes_for(base.folder, told.category_schema).texts
        with (
            model_server(codes, MODEL_S) as model,
            embedded_redis(home / "redis", settings) as redis,
        ):
            here = settings.model_copy(update=changes | {"vllm_urls": (model.url,), "redis_url": redis.url})
            migrate.upgrade(here.database_url)
            installed = asyncio.run(_install(here))
            with api_running(here):
                return asyncio.run(_compare(here, installed, rounds, requests, progress))


async def _install(settings: Settings) -> list[Installation]:
    base, told = find_base(STARTER), demo_tenant(0)
    adapter = write_adapter(base, RANK, settings.home / "adapters")
    database = open_database(settings.database_url)
    try:
        return [
            await install(database, base, adapter, told.category_schema, name) for name in ("quiet", "noisy")
        ]
    finally:
        await database.close()


async def _compare(
    settings: Settings, installed: Sequence[Installation], rounds: int, requests: int, progress: Progress
) -> Neighbours:
    async with AsyncExitStack() as stack:
        quiet, noisy = [
            Neighbour(
                await stack.enter_async_context(_client(settings, one)), {"schema_id": str(one.schema_id)}
            )
            for one in installed
        ]
        async with _noise(noisy, Counter()):  # connections open, and everything compiled that will be
            await _ask(quiet, WARM_UP)
        pairs: list[tuple[list[float], list[float]]] = []
        failed, noise = 0, Counter[str]()
        for number in range(rounds):
            pair: dict[bool, list[float]] = {}
            for loud in (False, True) if number % 2 else (True, False):
                async with _noise(noisy, noise) if loud else AsyncExitStack():
                    pair[loud], wrong = await _ask(quiet, requests)
                failed += wrong
            pairs.append((pair[False], pair[True]))
            progress.update("measure", number + 1, rounds)
    progress.end("measure")
    ratios = [_percentile(loud, 99) / _percentile(calm, 99) for calm, loud in pairs]
    alone, crowded = ([seconds for pair in pairs for seconds in pair[side]] for side in (0, 1))
    return Neighbours(
        p99_ratio=statistics.geometric_mean(ratios),
        p99_ratio_95=interval(ratios),
        quiet_p50_ms=1000 * statistics.median(alone),
        quiet_p99_ms=1000 * _percentile(alone, 99),
        noisy_p50_ms=1000 * statistics.median(crowded),
        noisy_p99_ms=1000 * _percentile(crowded, 99),
        failed=failed,
        noise=dict(sorted(noise.items())),
        round_ratios=ratios,
        requests=requests,
        rounds=rounds,
        model_latency_ms=1000 * MODEL_S,
        tenant_in_flight=settings.tenant_in_flight,
        max_in_flight=settings.max_in_flight,
        processors=len(os.sched_getaffinity(0)),
    )


def _client(settings: Settings, installed: Installation) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {installed.api_key}"}
    limits = httpx.Limits(max_connections=None)
    url = recipes.url_here(settings)
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=300, limits=limits, trust_env=False)


async def _ask(quiet: Neighbour, requests: int) -> tuple[list[float], int]:
    """Seconds of each request, and how many of them were not answered."""
    numbers, each, failed = iter(range(requests)), list[float](), 0

    async def go_on() -> None:
        nonlocal failed
        for _ in numbers:
            start = time.perf_counter()
            answer = await quiet.client.post("/v1/classify", json=quiet.body | {"text": TEXT})
            each.append(time.perf_counter() - start)
            failed += answer.status_code != 200

    await asyncio.gather(*(go_on() for _ in range(QUIET_AT_ONCE)))
    return each, failed


class _noise:
    """While it is open the noisy tenant asks for what it can get."""

    def __init__(self, noisy: Neighbour, counts: Counter[str]):
        self._noisy, self._counts = noisy, counts
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> None:
        self._tasks = [asyncio.create_task(self._batches()) for _ in range(BATCHES_AT_ONCE)]
        await asyncio.sleep(MODEL_S)  # until it holds what it can get

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(MODEL_S)

    async def _batches(self) -> None:
        items = [{"id": str(number), "text": TEXT} for number in range(BATCH)]
        while True:
            answer = await self._noisy.client.post(
                "/v1/classify/batch", json=self._noisy.body | {"items": items}
            )
            if answer.status_code == 200:
                for result in answer.json()["results"]:
                    self._counts["answered" if result["answer"] else result["problem"]["code"]] += 1
            else:
                self._counts[f"batch refused: {answer.json()['code']}"] += 1
                await asyncio.sleep(PAUSE_S)


def _percentile(seconds: Sequence[float], number: int) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[number - 1]


def table(found: Neighbours) -> Table:
    shown = Table("the quiet tenant", "p50", "p99")
    shown.add_row("alone", f"{found.quiet_p50_ms:.0f} ms", f"{found.quiet_p99_ms:.0f} ms")
    shown.add_row("beside the noisy one", f"{found.noisy_p50_ms:.0f} ms", f"{found.noisy_p99_ms:.0f} ms")
    shown.add_row("ratio", "", "{:.3f} ({:.3f} to {:.3f})".format(found.p99_ratio, *found.p99_ratio_95))
    shown.add_row("not answered", str(found.failed), "")
    return shown
