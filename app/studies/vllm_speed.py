"""How fast a base answers through vLLM as it is started on this machine: tokens a second, so many in flight.

The demo tenant's conversations are asked in their order, each round with a prefix cache of its own. To compare two ways
of starting it, run it in turns with the settings of each (STEERWISE_VLLM_CPU_ENGINE, STEERWISE_VLLM_DTYPE): what else a
machine does changes its speed from minute to minute.
"""

import asyncio
import time
from typing import NamedTuple

from pydantic import BaseModel
from rich.table import Table

from app.cli.console import Progress
from app.errors import ServingError
from app.serving import processor, vllm
from app.serving.base import ModelBase, codes_for
from app.serving.vllm import BASE_NAME, VllmEndpoint, while_alive
from app.settings import Settings
from app.studies.serving import ANSWER_TIMEOUT_S, served
from evaluation.contract.mode import Mode
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.inference.predictor import Codes, PredictorError, Sending, VllmPredictor
from training.starter.world import demo_tenant


class SpeedRequest(NamedTuple):
    answers: int  # in each round
    in_flight: int
    rounds: int
    mode: Mode


class VllmSpeed(BaseModel):
    """…_per_s: of each round, in order. start_s: until vLLM answered."""

    written_tokens_per_s: list[float]
    answers_per_s: list[float]
    prompt_tokens: float  # of an answer
    cached_prompt_share: float
    start_s: float
    mode: Mode
    in_flight: int
    answers: int
    base: str
    dtype: str
    cpu_engine: str | None  # None: on a GPU
    processors: int


class _Round(NamedTuple):
    seconds: float
    written: int
    read: int
    cached: int


def measure(base: ModelBase, asked: SpeedRequest, settings: Settings, progress: Progress) -> VllmSpeed:
    """Raises: InputError, ServingError."""
    tenant = demo_tenant(0)
    schema, conversations = tenant.category_schema, tenant.conversations[: asked.answers]
    codes, start = codes_for(base.folder, schema), time.perf_counter()
    with served(base, settings, progress) as running:
        start_s = time.perf_counter() - start
        rounds = asyncio.run(
            while_alive(running, _all(running.endpoint, codes, schema, conversations, asked))
        )
    read = sum(one.read for one in rounds)
    return VllmSpeed(
        written_tokens_per_s=[one.written / one.seconds for one in rounds],
        answers_per_s=[len(conversations) / one.seconds for one in rounds],
        prompt_tokens=read / len(rounds) / len(conversations),
        cached_prompt_share=sum(one.cached for one in rounds) / read,
        start_s=start_s,
        mode=asked.mode,
        in_flight=asked.in_flight,
        answers=len(conversations),
        base=base.name,
        dtype=vllm.dtype(settings),
        cpu_engine=None if settings.on_gpu else vllm.cpu_engine(settings, processor.cores()),
        processors=processor.cores(),
    )


def table(speed: VllmSpeed) -> Table:
    shown = Table("round", "tokens/s", "answers/s")
    for number, (tokens, answers) in enumerate(
        zip(speed.written_tokens_per_s, speed.answers_per_s, strict=True), start=1
    ):
        shown.add_row(str(number), f"{tokens:.1f}", f"{answers:.2f}")
    how = "GPU" if speed.cpu_engine is None else f"engine {speed.cpu_engine}, {speed.processors} cores"
    told = f"{speed.base} in {speed.dtype}, {how}, {speed.in_flight} in flight, mode {speed.mode}"
    shown.caption = f"{told}; up after {speed.start_s:.0f} s"
    return shown


async def _all(
    endpoint: VllmEndpoint,
    codes: Codes,
    schema: CategorySchema,
    conversations: list[Conversation],
    asked: SpeedRequest,
) -> list[_Round]:
    return [
        await _round(endpoint, codes, schema, conversations, asked, number) for number in range(asked.rounds)
    ]


async def _round(
    endpoint: VllmEndpoint,
    codes: Codes,
    schema: CategorySchema,
    conversations: list[Conversation],
    asked: SpeedRequest,
    number: int,
) -> _Round:
    async with endpoint.async_client(ANSWER_TIMEOUT_S) as client:
        predictor = VllmPredictor(
            client,
            BASE_NAME,
            codes,
            concurrency=asked.in_flight,
            sending=Sending(cache_salt=f"round {number}"),
            mode=asked.mode,
        )
        try:
            await predictor.predict(schema, conversations[0])  # from here on the schema is in the cache
            start = time.perf_counter()
            found = await asyncio.gather(*(predictor.predict(schema, one) for one in conversations))
        except PredictorError as error:
            raise ServingError(f"vLLM did not answer: {error}") from None
    seconds = time.perf_counter() - start
    return _Round(
        seconds,
        sum(one.completion_tokens or 0 for one in found),
        sum(one.prompt_tokens or 0 for one in found),
        sum(one.cached_tokens or 0 for one in found),
    )
