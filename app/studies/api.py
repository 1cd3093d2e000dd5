"""What the service costs: the same prompts sent to vLLM directly and through `POST /v1/classify`, in turns, in one run.

Everything is started as `steerwise serve` starts it: vLLM, Redis, and the API as a process of its own over SQLite. Both
ways are driven by the same code, which reads each response to its end and parses it. Answers that vLLM has to be asked
for a second time (`forced_reads`) count once, though the direct way asks once only.

A machine may grow a third slower from one minute to the next. So the two ways take turns every few seconds, and what is
compared is each lap with the one beside it.
"""

import asyncio
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from pydantic import BaseModel
from rich.table import Table
from scipy.stats import t as student

from app.cli.console import Progress
from app.errors import ServingError
from app.infra.db import migrate
from app.infra.db.engine import open_database
from app.infra.processes import how_it_ended, log_tail, spawn, stop
from app.local import recipes
from app.local.redis import embedded_redis
from app.serving.adapters import Adapter
from app.serving.base import STARTER, ModelBase, codes_for, find_base
from app.serving.replicas import opened
from app.serving.vllm import VllmEndpoint, serving, while_alive
from app.settings import Settings
from app.studies.untrained import Installation, install, write_adapter
from evaluation.contract.record import Conversation, Split
from evaluation.contract.schema import CategorySchema
from evaluation.inference.predictor import ROUTE, Sending, VllmPredictor
from training.starter.world import demo_tenant

LAPS = {1: 8, 8: 32, 32: 96}  # by concurrency, how many requests take about ten seconds on two cores
RANK = 8  # of the demo's adapters
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 15
_MANY = 1_000_000  # the tenant's limit must not be what is measured


class Latency(BaseModel):
    """Of one request, in milliseconds."""

    p50: float
    p95: float


class ApiSpeed(BaseModel):
    """By concurrency. p50_ms and p95_ms: through the API, one request at a time."""

    throughput_ratio: dict[str, float]  # through the API over directly: geometric mean over the rounds
    throughput_ratio_95: dict[str, tuple[float, float]]  # by Student's t on its logarithm over the rounds
    p50_ms: float
    p95_ms: float
    api_requests_per_s: dict[str, float]
    direct_requests_per_s: dict[str, float]
    api_latency_ms: dict[str, Latency]
    direct_latency_ms: dict[str, Latency]
    round_ratios: dict[str, list[float]]
    forced_reads: float  # share of the answers
    requests: dict[str, int]  # of each way, in each round
    rounds: int
    processors: int


class RequestRoute(NamedTuple):
    client: httpx.AsyncClient
    path: str
    bodies: Sequence[bytes]


class ApiLap(NamedTuple):
    """seconds: of all together. each: of one request, in seconds."""

    seconds: float
    each: list[float]
    forced: int


class ApiBench(NamedTuple):
    settings: Settings
    base: ModelBase
    adapter: Adapter
    schema: CategorySchema
    conversations: Sequence[Conversation]


def measure(rounds: int, settings: Settings, progress: Progress) -> ApiSpeed:
    """rounds: at least 2."""
    base = find_base(STARTER)
    with tempfile.TemporaryDirectory(prefix="steerwise-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        changes = {
            "home": home,
            "database_url": f"sqlite:///{home}/speed.db",
            "storage_url": str(home / "storage"),
        }
        here = settings.model_copy(
            update=changes
            | {"base": STARTER, "vllm_max_lora_rank": RANK, "host": "127.0.0.1", "port": recipes.free_port()}
        )
        migrate.upgrade(here.database_url)
        tenant = demo_tenant(0)
        asked = [c for c in tenant.conversations if c.split is Split.test]
        place = ApiBench(
            here, base, write_adapter(base, RANK, home / "adapters"), tenant.category_schema, asked
        )
        waiting = lambda _passed: progress.update("start vLLM", 0, None)  # noqa: E731
        with (
            embedded_redis(home / "redis", here) as redis,
            serving(base.folder, home / "vllm.log", here, waiting) as vllm,
        ):
            progress.end("start vLLM")
            place = place._replace(
                settings=here.model_copy(update={"vllm_urls": (vllm.endpoint.url,), "redis_url": redis.url})
            )
            installed = asyncio.run(_prepare(place))
            with api_running(place.settings, TENANT_RATE_PER_S=str(_MANY), TENANT_BURST=str(_MANY)):
                work = _compare(place, vllm.endpoint, installed, rounds, progress)
                return asyncio.run(while_alive(vllm, work))


def table(speed: ApiSpeed) -> Table:
    shown = Table("at once", "through the API", "directly", "ratio", "95 %", "p50, API", "p95, API")
    for at_once, ratio in speed.throughput_ratio.items():
        latency = speed.api_latency_ms[at_once]
        rates = speed.api_requests_per_s[at_once], speed.direct_requests_per_s[at_once]
        shown.add_row(
            at_once,
            *(f"{rate:.1f}/s" for rate in rates),
            f"{ratio:.3f}",
            "{:.3f} to {:.3f}".format(*speed.throughput_ratio_95[at_once]),
            f"{latency.p50:.0f} ms",
            f"{latency.p95:.0f} ms",
        )
    return shown


async def _prepare(place: ApiBench) -> Installation:
    database = open_database(place.settings.database_url)
    try:
        async with opened(place.settings) as replicas:
            await replicas.load(place.adapter.folder, place.adapter.sha256)
        return await install(database, place.base, place.adapter, place.schema)
    finally:
        await database.close()


async def _compare(
    place: ApiBench, endpoint: VllmEndpoint, installed: Installation, rounds: int, progress: Progress
) -> ApiSpeed:
    headers = {"Authorization": f"Bearer {installed.api_key}"}
    url = recipes.url_here(place.settings)
    async with (
        endpoint.async_client() as to_vllm,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=300, trust_env=False) as to_api,
    ):
        codes = codes_for(place.base.folder, place.schema)
        asking = VllmPredictor(to_vllm, place.adapter.sha256, codes, sending=Sending(cache_salt="direct"))
        direct = RequestRoute(
            to_vllm, ROUTE, [_json(asking.request(place.schema, c)) for c in place.conversations]
        )
        api = RequestRoute(
            to_api, "/v1/classify", [_json(_question(installed, c)) for c in place.conversations]
        )
        for arm in (direct, api):
            await _lap(arm, max(LAPS), max(LAPS))  # prefixes cached, connections open
        laps: dict[int, list[tuple[ApiLap, ApiLap]]] = {at_once: [] for at_once in LAPS}
        for number in range(rounds):
            for at_once, requests in LAPS.items():
                laps[at_once].append(await _both(api, direct, requests, at_once, number))
            progress.update("measure", number + 1, rounds)
    progress.end("measure")
    return _speed(laps)


async def _both(
    api: RequestRoute, direct: RequestRoute, requests: int, at_once: int, number: int
) -> tuple[ApiLap, ApiLap]:
    """The one that begins changes from round to round."""
    if number % 2:
        first = await _lap(api, requests, at_once)
        return first, await _lap(direct, requests, at_once)
    second = await _lap(direct, requests, at_once)
    return await _lap(api, requests, at_once), second


async def _lap(arm: RequestRoute, requests: int, at_once: int) -> ApiLap:
    numbers = iter(range(requests))
    each: list[float] = []
    forced = 0

    async def go_on() -> None:
        nonlocal forced
        for number in numbers:
            start = time.perf_counter()
            body = arm.bodies[number % len(arm.bodies)]
            headers = {"Content-Type": "application/json"}
            response = await arm.client.post(arm.path, content=body, headers=headers)
            if response.status_code != 200:
                raise ServingError(f"{arm.path} answered {response.status_code}", [response.text[:500]])
            forced += bool(response.json().get("forced_read"))
            each.append(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*(go_on() for _ in range(at_once)))
    return ApiLap(time.perf_counter() - start, each, forced)


def _speed(laps: dict[int, list[tuple[ApiLap, ApiLap]]]) -> ApiSpeed:
    def rate(side: int, at_once: int) -> float:
        mine = [pair[side] for pair in laps[at_once]]
        return sum(len(lap.each) for lap in mine) / sum(lap.seconds for lap in mine)

    def latency(side: int, at_once: int) -> Latency:
        each = sorted(s * 1000 for pair in laps[at_once] for s in pair[side].each)
        cuts = statistics.quantiles(each, n=20, method="inclusive")
        return Latency(p50=statistics.median(each), p95=cuts[-1])

    alone = latency(0, min(laps))
    names = {str(at_once): at_once for at_once in laps}
    ratios = {name: [pair[1].seconds / pair[0].seconds for pair in laps[n]] for name, n in names.items()}
    through = [lap for pairs in laps.values() for lap, _ in pairs]
    return ApiSpeed(
        throughput_ratio={name: statistics.geometric_mean(ratios[name]) for name in names},
        throughput_ratio_95={name: interval(ratios[name]) for name in names},
        p50_ms=alone.p50,
        p95_ms=alone.p95,
        api_requests_per_s={name: rate(0, n) for name, n in names.items()},
        direct_requests_per_s={name: rate(1, n) for name, n in names.items()},
        api_latency_ms={name: latency(0, n) for name, n in names.items()},
        direct_latency_ms={name: latency(1, n) for name, n in names.items()},
        round_ratios=ratios,
        forced_reads=sum(lap.forced for lap in through) / sum(len(lap.each) for lap in through),
        requests={name: len(laps[n][0][0].each) for name, n in names.items()},
        rounds=len(laps[min(laps)]),
        processors=len(os.sched_getaffinity(0)),
    )


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """95 % of their geometric mean, by Student's t on their logarithms."""
    logs = [math.log(ratio) for ratio in ratios]
    reach = student.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    middle = statistics.fmean(logs)
    return math.exp(middle - reach), math.exp(middle + reach)


@contextmanager
def api_running(settings: Settings, **others: str) -> Iterator[None]:
    """As a process of its own, ready to answer. others: further settings, by their names in the environment."""
    changed = {
        "DATABASE_URL": settings.database_url,
        "STORAGE_URL": settings.storage_url,
        "REDIS_URL": str(settings.redis_url),
        "VLLM_URLS": json.dumps(settings.vllm_urls),
        "BASE": settings.base,
        **others,
    }
    environment = recipes.environment(settings) | {f"STEERWISE_{k}": v for k, v in changed.items()}
    log = settings.home / "api.log"
    child = spawn([sys.executable, "-m", "app.cli.program", "api"], log, environment)
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _ready(recipes.url_here(settings)):
            if child.poll() is not None or time.monotonic() > deadline:
                ending = "is not ready" if child.poll() is None else how_it_ended(child.returncode)
                raise ServingError(f"the API did not start ({ending})", log_tail(log))
            time.sleep(0.2)
        yield
    finally:
        stop(child, _STOP_TIMEOUT_S)


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _question(installed: Installation, conversation: Conversation) -> dict[str, Any]:
    messages = [message.model_dump(mode="json") for message in conversation.messages]
    return {"schema_id": str(installed.schema_id), "messages": messages}


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()
