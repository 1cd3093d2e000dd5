"""What the gate costs: its questions asked by the runner, and as fast as the same vLLM answers them, in one run.

There are three ways of asking the very same questions. `gate`: as an evaluation does, outcomes on disk included.
`raw`: the same requests in the same order by the barest client, which looks at what it got after its clock has stopped.
`random_order`: raw too, but in random order, which shows what the suite's order is worth to vLLM's prefix cache.

A lap is the whole suite, and has a cache of its own (`cache_salt`), so that it profits from nothing but itself. As a
machine may be a third slower a minute later, the ways take turns after each part of a lap, and what is compared is each
lap with that of the same round. Answers that the gate has to ask for a second time (`forced_reads`) count once, though
the other ways ask once only.
"""

import asyncio
import json
import math
import os
import random
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx
from pydantic import BaseModel
from rich.table import Table

from app.cli.console import Progress
from app.errors import ServingError
from app.serving.base import STARTER, find_base
from app.serving.vllm import BASE_NAME, VllmEndpoint, while_alive
from app.settings import Settings
from app.studies import tables
from app.studies.serving import served
from evaluation.contract.record import Split
from evaluation.inference import completions, runner
from evaluation.inference.completions import Completion
from evaluation.inference.predictor import ROUTE, Codes, Prediction, Sending, VllmPredictor, load_codes
from evaluation.inference.runner import Questions
from evaluation.suites import steerability
from evaluation.suites.families import SEEN
from training.starter.world import demo_tenant

ITEMS = 400  # at most
PARTS = 3  # of a lap; the shorter they are, the more of their time is spent waiting for the last few answers
GATE, RAW, RANDOM_ORDER = "gate", "raw", "random_order"
ARMS = (GATE, RAW, RANDOM_ORDER)  # raw in the middle: beside both of those that are compared with it
_HEAD = "POST {} HTTP/1.1\r\nHost: vllm\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class GateLap(NamedTuple):
    """client_s: of processor time, in this process. cached_tokens: of the prompts'.

    forced: answers for which a second request was needed.
    """

    seconds: float
    client_s: float
    answers: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    forced: int = 0


class WaySpeed(BaseModel):
    """Over all rounds. completion_tokens and client_ms (of processor time, in our own process): of an answer."""

    answers_per_s: float
    cached_prompt_share: float
    completion_tokens: float
    client_ms: float


class GateSpeed(BaseModel):
    """…_over_raw: answers a second over those of `raw`, geometric mean over the rounds."""

    answers_over_raw: float  # of the gate
    answers_over_raw_95: tuple[float, float]  # by Student's t on its logarithm over the rounds
    cached_prompt_share: float  # of the gate's prompt tokens, that came from vLLM's prefix cache
    random_order_over_raw: float
    random_order_over_raw_95: tuple[float, float]
    random_order_cached_prompt_share: float
    arms: dict[str, WaySpeed]
    round_ratios: dict[str, list[float]]
    forced_reads: float  # share of the gate's answers
    items: int
    schemas: int  # the tenant's own and its edits: prefixes that items share
    concurrency: int
    rounds: int
    processors: int


class GateBench(NamedTuple):
    """schemas: that the questions are about. folder: for the gate's outcomes."""

    endpoint: VllmEndpoint
    questions: Questions
    schemas: int
    codes: Codes
    concurrency: int
    folder: Path


def measure(rounds: int, settings: Settings, progress: Progress) -> GateSpeed:
    """rounds: at least 2."""
    base, tenant = find_base(STARTER), demo_tenant(0)
    held_out = [c for c in tenant.conversations if c.split is Split.test]
    suite = steerability.build(tenant.category_schema, held_out, max_items=ITEMS, families=tuple(SEEN))
    schemas = [perturbed.schema for perturbed in suite.perturbations]
    codes = load_codes(base.folder, max(len(schema.answers) for schema in schemas))
    with (
        tempfile.TemporaryDirectory(prefix="steerwise-bench-", ignore_cleanup_errors=True) as outcomes,
        served(base, settings, progress) as vllm,
    ):
        place = GateBench(
            vllm.endpoint, suite.questions, len(schemas), codes, settings.concurrency, Path(outcomes)
        )
        return asyncio.run(while_alive(vllm, _compare(place, rounds, progress)))


def table(speed: GateSpeed) -> Table:
    over_raw = {
        GATE: (speed.answers_over_raw, speed.answers_over_raw_95),
        RANDOM_ORDER: (speed.random_order_over_raw, speed.random_order_over_raw_95),
    }
    shown = Table("arm", "answers", "over raw", "95 %", "cached prompts", "client, an answer")
    for name, arm in speed.arms.items():
        ratio = over_raw.get(name)
        shown.add_row(
            name.replace("_", " "),
            f"{arm.answers_per_s:.1f}/s",
            f"{ratio[0]:.3f}" if ratio else "–",
            "{:.3f} to {:.3f}".format(*ratio[1]) if ratio else "–",
            f"{arm.cached_prompt_share:.3f}",
            f"{arm.client_ms:.1f} ms",
        )
    return shown


async def _compare(place: GateBench, rounds: int, progress: Progress) -> GateSpeed:
    first = range(min(place.concurrency, len(place.questions.each)))
    for arm in ARMS:
        await _part(place, arm, f"{arm}-first", first)  # vLLM compiles at first sight
    laps: dict[str, list[GateLap]] = {arm: [] for arm in ARMS}
    for number in range(rounds):
        progress.update("measure", number, rounds)
        for arm, lap in (await _round(place, number)).items():
            laps[arm].append(lap)
    progress.end("measure")
    return _speed(laps, place)


async def _round(place: GateBench, number: int) -> dict[str, GateLap]:
    """A lap of each way. number: of the round, and the seed of its random order."""
    count = len(place.questions.each)
    in_order, size = range(count), math.ceil(count / PARTS)
    shuffled = random.Random(number).sample(in_order, count)
    parts: dict[str, list[GateLap]] = {arm: [] for arm in ARMS}
    for turn, start in enumerate(range(0, count, size)):
        for arm in ARMS if (number + turn) % 2 == 0 else reversed(ARMS):
            order = shuffled if arm == RANDOM_ORDER else in_order
            asked = order[start : start + size]
            parts[arm].append(await _part(place, arm, f"{arm}-{number}", asked))
    return {arm: GateLap(*(sum(of) for of in zip(*parts[arm], strict=True))) for arm in ARMS}


async def _part(place: GateBench, arm: str, salt: str, asked: Sequence[int]) -> GateLap:
    """asked: indices of questions, in the order in which they are asked. Raises: ServingError."""
    async with place.endpoint.async_client() as client:
        predictor = VllmPredictor(
            client,
            BASE_NAME,
            place.codes,
            concurrency=place.concurrency,
            sending=Sending(cache_salt=salt),
        )
        if arm == GATE:
            return await _gate(place, predictor, place.folder / f"{salt}-{asked[0]}.jsonl", asked)
        questions = [place.questions.each[index] for index in asked]
        bodies = [json.dumps(predictor.request(*question)).encode() for question in questions]
    return await _raw(place.endpoint, bodies, place.concurrency)


async def _gate(place: GateBench, predictor: VllmPredictor, out: Path, asked: Sequence[int]) -> GateLap:
    start, used = time.perf_counter(), time.process_time()
    measured = await runner.run(
        place.questions, predictor, model=BASE_NAME, out=out, only=asked, concurrency=place.concurrency
    )
    seconds, client_s = time.perf_counter() - start, time.process_time() - used
    errors = [one.error for one in measured if one.error is not None]
    if errors:
        raise ServingError(f"vLLM did not answer {len(errors)} of the gate's questions", errors[:1])
    predictions = [one.prediction for one in measured if one.prediction is not None]
    forced = sum(prediction.forced_read for prediction in predictions)
    return GateLap(seconds, client_s, len(predictions), *_tokens(predictions), forced)


async def _raw(endpoint: VllmEndpoint, bodies: Sequence[bytes], concurrency: int) -> GateLap:
    requests = iter([_HEAD.format(ROUTE, len(body)).encode() + body for body in bodies])
    responses: list[bytes] = []
    start, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(_send(endpoint, requests, responses) for _ in range(concurrency)))
    seconds, client_s = time.perf_counter() - start, time.process_time() - used
    answers = [completions.read(json.loads(response)) for response in responses]
    return GateLap(seconds, client_s, len(answers), *_tokens(answers))


async def _send(endpoint: VllmEndpoint, requests: Iterator[bytes], responses: list[bytes]) -> None:
    """One after the other on one connection, without an HTTP library, whose cost would count as vLLM's."""
    if endpoint.socket is None:
        url = httpx.URL(endpoint.base_url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
    else:
        reader, writer = await asyncio.open_unix_connection(endpoint.socket)
    try:
        for request in requests:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if length is None or not head.startswith(b"HTTP/1.1 200 "):
                raise ServingError("vLLM did not answer", [head.decode(errors="replace")])
            responses.append(await reader.readexactly(int(length[1])))
    finally:
        writer.close()


def _tokens(answers: Sequence[Prediction] | Sequence[Completion]) -> tuple[int, int, int]:
    """Of prompts, of those that were cached, and of completions. Raises: ServingError where vLLM did not count."""
    counts = [(one.prompt_tokens, one.cached_tokens, one.completion_tokens) for one in answers]
    known = [(p, cached, c) for p, cached, c in counts if None not in (p, cached, c)]
    if len(known) < len(counts):
        raise ServingError("vLLM did not say of every prompt how much of it was cached")
    prompt, cached, completion = (sum(of) for of in zip(*known, strict=True))
    return prompt, cached, completion


def _speed(laps: dict[str, list[GateLap]], place: GateBench) -> GateSpeed:
    ratios = {arm: _over(laps[arm], laps[RAW]) for arm in (GATE, RANDOM_ORDER)}
    arms = {arm: _mean(of_way) for arm, of_way in laps.items()}
    return GateSpeed(
        answers_over_raw=statistics.geometric_mean(ratios[GATE]),
        answers_over_raw_95=_interval(ratios[GATE]),
        cached_prompt_share=arms[GATE].cached_prompt_share,
        random_order_over_raw=statistics.geometric_mean(ratios[RANDOM_ORDER]),
        random_order_over_raw_95=_interval(ratios[RANDOM_ORDER]),
        random_order_cached_prompt_share=arms[RANDOM_ORDER].cached_prompt_share,
        arms=arms,
        round_ratios=ratios,
        forced_reads=sum(lap.forced for lap in laps[GATE]) / sum(lap.answers for lap in laps[GATE]),
        items=len(place.questions.each),
        schemas=place.schemas,
        concurrency=place.concurrency,
        rounds=len(laps[RAW]),
        processors=len(os.sched_getaffinity(0)),
    )


def _over(laps: Sequence[GateLap], raw: Sequence[GateLap]) -> list[float]:
    """Of answers a second, round by round. Both sides of a round have as many answers."""
    return [bare.seconds / lap.seconds for lap, bare in zip(laps, raw, strict=True)]


def _mean(laps: Sequence[GateLap]) -> WaySpeed:
    answers = sum(lap.answers for lap in laps)
    return WaySpeed(
        answers_per_s=answers / sum(lap.seconds for lap in laps),
        cached_prompt_share=sum(lap.cached_tokens for lap in laps) / sum(lap.prompt_tokens for lap in laps),
        completion_tokens=sum(lap.completion_tokens for lap in laps) / answers,
        client_ms=1000 * sum(lap.client_s for lap in laps) / answers,
    )


def _interval(ratios: Sequence[float]) -> tuple[float, float]:
    middle, reach, _ = tables.mean([math.log(ratio) for ratio in ratios])
    assert reach is not None  # there are two rounds at least
    return math.exp(middle - reach), math.exp(middle + reach)
