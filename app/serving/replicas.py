"""All the vLLMs of this installation. They serve one base and the same adapters, so any of them may answer.

An adapter is called by the SHA-256 of its content: the same name is never another model, whoever loaded it, and no
word of a tenant becomes part of a name or a path.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx

from app.errors import ServingAway, ServingError, ServingLost
from app.serving.replica import ALONE_S, Replica, is_broken
from app.settings import Settings
from evaluation.contract.mode import Mode
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.inference.auto import AutoPredictor, Sure
from evaluation.inference.explaining import ExplainingPredictor
from evaluation.inference.http import Retries
from evaluation.inference.predictor import Codes, Prediction, PredictorError, Sending, VllmPredictor

T = TypeVar("T")

# A kept connection may just have been closed; a server that wants more time is left for another one.
ONCE_MORE = Sending(Retries(attempts=2, backoff_s=0.05, longest_s=0.05))
BROKEN_TRIES = 2  # a question that breaks one replica is asked of one other, and not of all of them
_WATCH_EVERY_S = 2.0
_MISSES = 3


class AskedModel(NamedTuple):
    """Which model is asked, and how. adapter: its name at the server.

    mode: the first one, where `sure` says in which cases its answer may stand; else the only one. explain: what is
    answered at once gets its reasons too.
    """

    adapter: str
    codes: Codes
    mode: Mode = Mode.reasoned
    sure: Sure | None = None
    explain: bool = False

    def predictor(self, client: httpx.AsyncClient, sending: Sending) -> VllmPredictor | AutoPredictor:
        model = client, self.adapter, self.codes
        plain = VllmPredictor(*model, sending=sending, mode=self.mode)
        explaining = ExplainingPredictor(*model, sending=sending, mode=self.mode) if self.explain else None
        if self.sure is None:
            return explaining or plain
        return AutoPredictor(plain, VllmPredictor(*model, sending=sending), self.sure, explaining)


class Replicas:
    """One for each event loop: its connections belong to that. Close it with `aclose`."""

    def __init__(self, settings: Settings):
        self.all: tuple[Replica, ...] = tuple(Replica(url, settings) for url in settings.vllm_urls)

    async def aclose(self) -> None:
        for replica in self.all:
            await replica.client.aclose()

    # ----------------------------------------------------------------------------------------------- answering

    async def predict(
        self,
        asked: AskedModel,
        schema: CategorySchema,
        conversation: Conversation,
        sending: Sending = ONCE_MORE,
    ) -> Prediction:
        """The next replica is asked where one fails. Raises: PredictorError, ServingAway."""
        problem, broken = ServingAway("no model server can answer now"), 0
        tried: list[Replica] = []
        for _ in self.all:
            try:
                with self.borrowed(asked.adapter, tried) as replica:
                    tried.append(replica)
                    return await asked.predictor(replica.client, sending).predict(schema, conversation)
            except ServingAway as error:
                problem = error
                broken += is_broken(error.__cause__)
            if broken == BROKEN_TRIES:
                break
        raise problem

    @contextmanager
    def borrowed(self, name: str, without: Sequence[Replica] = ()) -> Iterator[Replica]:
        """The least busy replica for requests to this adapter. A failure of the replica comes out as ServingAway."""
        replica = self._choose(name, without)
        trying = replica.unwell
        replica.busy += 1
        replica.trying += trying
        try:
            yield replica
            replica.answered()
        except httpx.TransportError as error:
            replica.leave_alone()
            raise ServingAway("a model server went away", _retry_after_s()) from error
        except PredictorError as error:
            if replica.is_to_blame(error, name):
                raise ServingAway(
                    "a model server cannot answer for this model now", _retry_after_s()
                ) from error
            raise
        finally:
            replica.busy -= 1
            replica.trying -= trying

    def _choose(self, name: str, without: Sequence[Replica]) -> Replica:
        """Of equally busy ones always the same for an adapter, whose prompts it then has in its cache.

        One that is sick is asked where no other is left: what it could not answer may have been the question's fault.
        """
        fit = [replica for replica in self.all if replica.may_have(name) and replica not in without]
        if not fit:
            raise ServingAway("no model server can answer for this model now", _retry_after_s())
        return min(fit, key=lambda replica: (replica.sick, replica.busy, _rank(replica, name)))

    # ------------------------------------------------------------------------------------------------ adapters

    async def load(self, folder: Path, name: str) -> None:
        """On every replica; see Replica.load."""
        for replica in self.present():
            await replica.load(folder, name)

    async def unload(self, name: str) -> None:
        for replica in self.present():
            await replica.unload(name)

    async def has(self, name: str) -> bool:
        """Every replica has it. Raises: ServingAway, ServingError."""
        return all([name in await replica.adapters() for replica in self.present()])

    async def healthy(self) -> bool:
        """There are replicas, and each of them is well."""
        return bool(self.all) and all(await asyncio.gather(*(replica.healthy() for replica in self.all)))

    async def roomiest(self) -> Replica:
        """The one with the fewest adapters of those that answer. Raises: ServingAway."""
        counts: list[tuple[int, int]] = []
        for number, replica in enumerate(self.present()):
            try:
                counts.append((len(await replica.adapters()), number))
            except (ServingAway, ServingError):
                continue
        if not counts:
            raise ServingAway("no model server answers")
        return self.all[min(counts)[1]]

    def present(self) -> Sequence[Replica]:
        """Raises: ServingAway where none is named."""
        if not self.all:
            raise ServingAway("no model server is named: STEERWISE_VLLM_URLS is empty")
        return self.all


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Replicas]:
    replicas = Replicas(settings)
    try:
        yield replicas
    finally:
        await replicas.aclose()


async def while_serving(replica: Replica, names: Sequence[str], work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; ServingLost soon after the replica went away or lost one of the adapters under it.

    Otherwise every question left would fail, and look as if there was nothing to measure.
    """
    task = asyncio.ensure_future(work)
    misses = 0
    try:
        while not (await asyncio.wait({task}, timeout=_WATCH_EVERY_S))[0]:
            misses = 0 if await _serves(replica, names) else misses + 1
            if misses >= _MISSES:
                raise ServingLost("the model server went away, or was started again, while it was asked")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _serves(replica: Replica, names: Sequence[str]) -> bool:
    try:
        return set(names) <= set(await replica.adapters())
    except (ServingAway, ServingError):
        return False


def _rank(replica: Replica, name: str) -> bytes:
    return hashlib.sha256(f"{replica.url}\n{name}".encode()).digest()


def _retry_after_s() -> int:
    return max(1, round(ALONE_S))
