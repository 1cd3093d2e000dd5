"""What a tenant can do to be a nuisance to the others: each kind asks for more than its share, again and again, and
again a moment after it was refused."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import httpx

from app.settings import Settings

BATCHES_AT_ONCE = 8
BATCH = 64
UPLOADS_AT_ONCE = 8
RUNS_AT_ONCE = 8
PAUSE_S = 0.1  # after a refusal
LISTENS_S = 1.0
_OVER = 2  # times its share
_PART = b'{"text": "Where is it?"}\n' * (160 << 10)  # about 4 MB of a file that is never sent to its end


class NoisyTenant(NamedTuple):
    """client: with a key that may do everything. run_id: of a run that waits. dataset_id: enough for a run.
    open_dataset_ids: empty ones, for files. gate_ids: passed, of more models than it may have deployed.
    """

    client: httpx.AsyncClient
    settings: Settings
    text: str
    schema_id: UUID
    dataset_id: str
    open_dataset_ids: Sequence[str]
    run_id: str
    gate_ids: Sequence[UUID]

    @property
    def question(self) -> dict[str, Any]:
        return {"schema_id": str(self.schema_id), "text": self.text}


Nuisance: TypeAlias = Callable[[NoisyTenant, int], Awaitable[Mapping[str, int]]]


class NoiseKind(NamedTuple):
    """once: does it once, as the one of `at_once` with that number; gives what it got. at_once: how many do it."""

    once: Nuisance
    at_once: Callable[[Settings], int]


class Noise:
    """While it is open the tenant makes it. got: by status or code, how often."""

    def __init__(self, tenant: NoisyTenant, kind: str, got: Counter[str]):
        self._tenant, self._kind, self._got = tenant, KINDS[kind], got
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> None:
        numbers = range(self._kind.at_once(self._tenant.settings))
        self._tasks = [asyncio.create_task(self._go_on(number)) for number in numbers]

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Raises: what its making ended with, so that no silence is taken for noise."""
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        broken = [one for one in ended if isinstance(one, Exception)]
        if broken and error is None:
            raise broken[0]

    async def _go_on(self, number: int) -> None:
        while True:
            try:
                got = await self._kind.once(self._tenant, number)
            except httpx.TransportError:
                got = {"refused: the connection was closed": 1}
            self._got.update(got)
            if any(what.startswith("refused") for what in got):
                await asyncio.sleep(PAUSE_S)


def _told(answer: httpx.Response) -> dict[str, int]:
    if answer.is_success:
        return {str(answer.status_code): 1}
    told = (
        answer.json()["code"] if answer.content else answer.status_code
    )  # too many connections: no more is said
    return {f"refused: {told}": 1}


async def _classify(at: NoisyTenant, _number: int) -> Mapping[str, int]:
    return _told(await at.client.post("/v1/classify", json=at.question))


async def _batch(at: NoisyTenant, _number: int) -> Mapping[str, int]:
    items = [{"id": str(number), "text": at.text} for number in range(BATCH)]
    body = {"schema_id": str(at.schema_id), "items": items}
    answer = await at.client.post("/v1/classify/batch", json=body)
    if not answer.is_success:
        return _told(answer)
    results = answer.json()["results"]
    return Counter("answered" if one["answer"] else one["problem"]["code"] for one in results)


async def _upload(at: NoisyTenant, number: int) -> Mapping[str, int]:
    """The first half of a file, from its beginning each time."""
    last = len(_PART) - 1
    headers = {"Content-Type": "application/jsonl", "Content-Range": f"bytes 0-{last}/{2 * len(_PART)}"}
    path = f"/v1/datasets/{at.open_dataset_ids[number]}/content"
    return _told(await at.client.put(path, content=_PART, headers=headers))


async def _run(at: NoisyTenant, _number: int) -> Mapping[str, int]:
    """One more, whose data is frozen for it, and which is given up at once."""
    body = {"schema_id": str(at.schema_id), "dataset_id": at.dataset_id, "preset": "smoke"}
    answer = await at.client.post("/v1/runs", json=body)
    if answer.is_success:
        await at.client.post(f"/v1/runs/{answer.json()['id']}/cancel")
    return _told(answer)


async def _stream(at: NoisyTenant, number: int) -> Mapping[str, int]:
    """Of a run's events, opened again and again; every fourth is of an answer."""
    if number % 4 == 0:
        return _told(await at.client.post("/v1/classify/stream", json=at.question))
    async with at.client.stream("GET", f"/v1/runs/{at.run_id}/events") as answer:
        if not answer.is_success:
            await answer.aread()
            return _told(answer)
        await asyncio.sleep(LISTENS_S)
    return {"listened": 1}


async def _adapter(at: NoisyTenant, number: int) -> Mapping[str, int]:
    gate_id = at.gate_ids[number % len(at.gate_ids)]
    answer = await at.client.post("/v1/deployments", json={"gate_id": str(gate_id)})
    await asyncio.sleep(PAUSE_S)
    return _told(answer)


KINDS: Mapping[str, NoiseKind] = MappingProxyType(
    {
        "classify": NoiseKind(_classify, lambda settings: _OVER * settings.tenant_in_flight),
        "batches": NoiseKind(_batch, lambda _: BATCHES_AT_ONCE),
        "uploads": NoiseKind(_upload, lambda _: UPLOADS_AT_ONCE),
        "runs": NoiseKind(_run, lambda _: RUNS_AT_ONCE),
        "streams": NoiseKind(_stream, lambda settings: _OVER * settings.tenant_streams),
        "adapters": NoiseKind(_adapter, lambda settings: settings.tenant_adapters + _OVER),
    }
)
