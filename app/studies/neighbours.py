"""What one tenant feels of another that asks for all it can get, with the shares and turns of the settings as they are.

A model server of fixed latency stands behind the API, so that nothing but the service itself can make an answer late.
A quiet tenant asks one conversation after the other in a few places. In each cycle it does so once alone, and once
beside each kind of noise (`app/studies/noise.py`), in an order that moves on from cycle to cycle; a noisy round and the
quiet one of its cycle give a ratio of the quiet tenant's 99th percentiles. Whatever the noisy tenant asks of workers is
worked on, as far as that is no training.
"""

import asyncio
import os
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
from httpx_aiohttp import AiohttpTransport
from pydantic import BaseModel
from rich.table import Table

from app.auth import service as auth
from app.auth.principal import Scope
from app.auth.service import KeyOrder
from app.cli.console import Progress
from app.deployments.tasks import reconcile
from app.errors import InputError, ServingError
from app.infra.db import migrate
from app.infra.db.engine import open_database
from app.infra.db.session import transaction
from app.infra.tables.jobs import JobKind
from app.jobs import repository as jobs
from app.jobs import runner
from app.jobs.background import load_handlers
from app.local import recipes
from app.local.redis import embedded_redis
from app.serving.base import STARTER, ModelBase, codes_for, find_base
from app.settings import Settings
from app.studies.api import RANK, api_running, interval
from app.studies.model_server import model_server
from app.studies.noise import KINDS, UPLOADS_AT_ONCE, Noise, NoisyTenant
from app.studies.security.lab import logging_to
from app.studies.untrained import Installation, add_passed_gate, install, write_adapter
from evaluation.contract.record import Split
from training.starter.world import DemoTenant, demo_tenant

MODEL_S = 1.0  # of every answer of the model server
QUIET_AT_ONCE = 6
WARM_UP = 8
TEXT = "Where is my parcel? I ordered it a week ago."
MORE_MODELS = 2  # of the noisy tenant, than it may have deployed
_WORK_EVERY_S = 0.5
_CONNECTIONS = 4096  # more than any noise opens
_READ_WITHIN_S = 300.0  # a file of some hundred conversations, on a machine that does much else
_WORKED_ON = frozenset({JobKind.validate_dataset, JobKind.deploy})


class NoiseFelt(BaseModel):
    """Of the quiet tenant, beside one kind of noise. p99_ratio: noisy rounds over the quiet ones of their cycles,
    geometric mean. failed: requests that were not answered. got: what the noisy tenant got, by status or code.
    """

    noise: str
    p99_ratio: float
    p99_ratio_95: tuple[float, float]  # by Student's t on its logarithm over the cycles
    p50_ms: float
    p99_ms: float
    failed: int
    got: dict[str, int]
    round_ratios: list[float]


class Neighbours(BaseModel):
    """Of the quiet tenant, in milliseconds; failed: requests that were not answered while it was alone."""

    noises: list[NoiseFelt]
    quiet_p50_ms: float
    quiet_p99_ms: float
    failed: int
    requests: int  # of the quiet tenant, in each round
    rounds: int
    model_latency_ms: float
    tenant_in_flight: int
    max_in_flight: int
    processors: int

    @property
    def asked(self) -> int:
        return self.requests * self.rounds * (1 + len(self.noises))


class Neighbour(NamedTuple):
    client: httpx.AsyncClient
    body: dict[str, Any]


class Street(NamedTuple):
    """Where they live. gate_ids: of the noisy one. key: of an admin of its."""

    settings: Settings
    told: DemoTenant
    quiet: Installation
    noisy: Installation
    gate_ids: list[UUID]
    key: str


class Round(NamedTuple):
    """each: seconds of each request. failed: of them."""

    each: list[float]
    failed: int


def measure(
    rounds: int, requests: int, settings: Settings, progress: Progress, noises: Sequence[str] = tuple(KINDS)
) -> Neighbours:
    """rounds: cycles, at least 2. requests: of the quiet tenant in each round. Raises: InputError."""
    if unknown := [noise for noise in noises if noise not in KINDS]:
        raise InputError(f"there is no noise {unknown[0]!r}; there are {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory(prefix="steerwise-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        changes = {"home": home, "base": STARTER, "host": "127.0.0.1", "port": recipes.free_port()}
        changes |= {"database_url": f"sqlite:///{home}/neighbours.db", "storage_url": str(home / "storage")}
        base, told = find_base(STARTER), demo_tenant(0)
        codes = codes_for(base.folder, told.category_schema).texts
        with (
            model_server(codes, MODEL_S, places=settings.vllm_max_adapters) as model,
            embedded_redis(home / "redis", settings) as redis,
        ):
            here = settings.model_copy(update=changes | {"vllm_urls": (model.url,), "redis_url": redis.url})
            migrate.upgrade(here.database_url)
            street = asyncio.run(_install(here, base, told))
            with worker(here) as working, api_running(here):
                asked = _Asked(tuple(noises), rounds, requests)
                return asyncio.run(_compare(street, working, asked, progress))


async def _install(settings: Settings, base: ModelBase, told: DemoTenant) -> Street:
    store, schema = settings.home / "adapters", told.category_schema
    adapter = write_adapter(base, RANK, store)
    database = open_database(settings.database_url)
    try:
        quiet, noisy = [await install(database, base, adapter, schema, name) for name in ("quiet", "noisy")]
        async with transaction(database) as session:
            key = await auth.create(session, None, noisy.scope.tenant_id, KeyOrder("all", [Scope.admin]))
        gate_ids = [
            await add_passed_gate(
                database,
                noisy.scope,
                key.row.id,
                base,
                write_adapter(base, RANK, store, number),
                schema.model_copy(update={"name": f"more {number}"}),
            )
            for number in range(1, settings.tenant_adapters + MORE_MODELS)
        ]
        await reconcile(database, settings)
    finally:
        await database.close()
    return Street(settings, told, quiet, noisy, gate_ids, key.text)


@contextmanager
def worker(settings: Settings) -> Iterator[Future[None]]:
    """What workers and the dispatcher do, but for training: files are read, models deployed, adapters kept.

    Raises, at its end: what it died of, if it did.
    """
    load_handlers()
    ended = threading.Event()
    with logging_to(settings.home / "worker.log", settings.log_level), ThreadPoolExecutor(1) as pool:
        working = pool.submit(_work, settings, ended)
        try:
            yield working
        finally:
            ended.set()
        working.result()


def _work(settings: Settings, ended: threading.Event) -> None:
    while not ended.wait(_WORK_EVERY_S):
        for job_id in asyncio.run(_due(settings)):
            runner.run_job(job_id, settings, ended.is_set)


async def _due(settings: Settings) -> list[UUID]:
    database = open_database(settings.database_url)
    try:
        await reconcile(database, settings)
        async with transaction(database, read_only=True) as session:
            found = await jobs.due(session, 0, 100)
    finally:
        await database.close()
    return [one.job_id for one in found if one.kind in _WORKED_ON]


class _Asked(NamedTuple):
    noises: tuple[str, ...]
    rounds: int
    requests: int


async def _compare(street: Street, working: Future[None], asked: _Asked, progress: Progress) -> Neighbours:
    noises, rounds, requests = asked
    async with AsyncExitStack() as stack:
        quiet = Neighbour(
            await stack.enter_async_context(_client(street.settings, street.quiet.api_key)),
            {"schema_id": str(street.quiet.schema_id)},
        )
        client = await stack.enter_async_context(_client(street.settings, street.key))
        noisy = await _prepare(street, client, working)
        got = {noise: Counter[str]() for noise in noises}
        for noise in noises:  # connections open, and everything compiled that will be
            async with Noise(noisy, noise, Counter()):
                await _ask(quiet, WARM_UP)
        found: dict[str | None, list[Round]] = {one: [] for one in (None, *noises)}
        order: list[str | None] = [None, *noises]
        for number in range(rounds):
            for one in order:
                found[one].append(await _round(quiet, noisy, one, got, requests))
            order = [*order[1:], order[0]]
            _check(working)
            progress.update("measure", number + 1, rounds)
    progress.end("measure")
    alone = found[None]
    return Neighbours(
        noises=[_felt(noise, found[noise], alone, got[noise]) for noise in noises],
        quiet_p50_ms=1000 * statistics.median(_all(alone)),
        quiet_p99_ms=1000 * _percentile(_all(alone), 99),
        failed=sum(one.failed for one in alone),
        requests=requests,
        rounds=rounds,
        model_latency_ms=1000 * MODEL_S,
        tenant_in_flight=street.settings.tenant_in_flight,
        max_in_flight=street.settings.max_in_flight,
        processors=len(os.sched_getaffinity(0)),
    )


async def _round(
    quiet: Neighbour, noisy: NoisyTenant, noise: str | None, got: dict[str, Counter[str]], requests: int
) -> Round:
    if noise is None:
        return await _ask(quiet, requests)
    async with Noise(noisy, noise, got[noise]):
        await asyncio.sleep(MODEL_S)  # until it holds what it can get
        made = await _ask(quiet, requests)
    await asyncio.sleep(2 * MODEL_S)  # until what it asked last is answered, and forgotten
    return made


def _felt(noise: str, loud: Sequence[Round], alone: Sequence[Round], got: Counter[str]) -> NoiseFelt:
    pairs = zip(loud, alone, strict=True)
    ratios = [_percentile(one.each, 99) / _percentile(calm.each, 99) for one, calm in pairs]
    return NoiseFelt(
        noise=noise,
        p99_ratio=statistics.geometric_mean(ratios),
        p99_ratio_95=interval(ratios),
        p50_ms=1000 * statistics.median(_all(loud)),
        p99_ms=1000 * _percentile(_all(loud), 99),
        failed=sum(one.failed for one in loud),
        got=dict(sorted(got.items())),
        round_ratios=ratios,
    )


def _all(rounds: Sequence[Round]) -> list[float]:
    return [seconds for one in rounds for seconds in one.each]


def _client(settings: Settings, key: str) -> httpx.AsyncClient:
    """Not with httpx's own transport, which looks at every connection for every request: both tenants ask from here,
    and with some hundred connections the noisy one would keep the quiet one waiting before a byte is sent.
    """
    transport = AiohttpTransport(limits=httpx.Limits(max_connections=_CONNECTIONS), trust_env=False)
    headers, url = {"Authorization": f"Bearer {key}"}, recipes.url_here(settings)
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=300, transport=transport, trust_env=False)


async def _prepare(street: Street, client: httpx.AsyncClient, working: Future[None]) -> NoisyTenant:
    """A data set with which a run may begin, one that has begun, and places for files."""
    schema_id = str(street.noisy.schema_id)

    async def dataset(name: str) -> str:
        made = await client.post("/v1/datasets", json={"name": name, "schema_id": schema_id})
        return str(_good(made)["id"])

    dataset_id = await dataset("for runs")
    told = [one for one in street.told.conversations if one.split in (Split.train, Split.test)]
    content = "\n".join(one.model_dump_json(exclude_none=True) for one in told).encode()
    path, headers = f"/v1/datasets/{dataset_id}", {"Content-Type": "application/jsonl"}
    _good(await client.put(f"{path}/content", content=content, headers=headers))
    await _until_ready(client, path, working)
    run = {"schema_id": schema_id, "dataset_id": dataset_id, "preset": "smoke"}
    return NoisyTenant(
        client=client,
        settings=street.settings,
        text=TEXT,
        schema_id=street.noisy.schema_id,
        dataset_id=dataset_id,
        open_dataset_ids=[await dataset(f"file {number}") for number in range(UPLOADS_AT_ONCE)],
        run_id=str(_good(await client.post("/v1/runs", json=run))["id"]),
        gate_ids=street.gate_ids,
    )


async def _until_ready(client: httpx.AsyncClient, path: str, working: Future[None]) -> None:
    """Raises: ServingError, and what the worker died of."""
    until = time.monotonic() + _READ_WITHIN_S
    while (state := _good(await client.get(path))["state"]) != "ready":
        _check(working)
        if state == "failed" or time.monotonic() > until:
            raise ServingError(f"the noisy tenant's file was not read within {_READ_WITHIN_S:g} s: {state}")
        await asyncio.sleep(_WORK_EVERY_S)


def _check(working: Future[None]) -> None:
    """A bench without a worker would measure a service that does nothing. Raises: what it died of."""
    if working.done():
        working.result()


def _good(answer: httpx.Response) -> dict[str, Any]:
    """Raises: ServingError."""
    if not answer.is_success:
        raise ServingError(f"the noisy tenant was answered {answer.status_code}", [answer.text[:500]])
    found: dict[str, Any] = answer.json()
    return found


async def _ask(quiet: Neighbour, requests: int) -> Round:
    numbers, each, failed = iter(range(requests)), list[float](), 0

    async def go_on() -> None:
        nonlocal failed
        for _ in numbers:
            start, answered = time.perf_counter(), False
            with suppress(httpx.TransportError):
                answer = await quiet.client.post("/v1/classify", json=quiet.body | {"text": TEXT})
                answered = answer.status_code == 200
            each.append(time.perf_counter() - start)
            failed += not answered

    await asyncio.gather(*(go_on() for _ in range(QUIET_AT_ONCE)))
    return Round(each, failed)


def _percentile(seconds: Sequence[float], number: int) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[number - 1]


def table(found: Neighbours) -> Table:
    shown = Table("the quiet tenant", "p50", "p99", "p99, over alone", "not answered")
    alone = f"{found.quiet_p50_ms:.0f} ms", f"{found.quiet_p99_ms:.0f} ms"
    shown.add_row("alone", *alone, "", str(found.failed))
    for felt in found.noises:
        ratio = "{:.3f} ({:.3f} to {:.3f})".format(felt.p99_ratio, *felt.p99_ratio_95)
        times = f"{felt.p50_ms:.0f} ms", f"{felt.p99_ms:.0f} ms"
        shown.add_row(f"beside {felt.noise}", *times, ratio, str(felt.failed))
    return shown
