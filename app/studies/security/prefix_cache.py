"""Whether one tenant can tell from a real vLLM what another one has asked: by what it finds in the prefix cache, which
vLLM counts, and by how long an answer takes.

A tenant guesses another's definitions, word for word, and asks with them; between these guesses it asks with
definitions of the same length that nobody has ever asked with. Both must find as much in the cache: what it asked
itself before, and no more.
"""

import asyncio
import re
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeAlias

import httpx

from app.errors import ServingError
from app.serving.base import STARTER, find_base
from app.serving.vllm import CPU_BLOCK, serving
from app.studies.security.lab import AttackedTenant, Lab, good, running
from app.studies.security.results import Skipped, SliceFound

WORDS = 120  # of a definition that is guessed
_HITS = re.compile(r"^vllm:prefix_cache_hits(?:_total)?(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)
_TEXT = "Where is it?"

CountHits: TypeAlias = Callable[[], Awaitable[float]]
Ask: TypeAlias = Callable[[str], Awaitable[None]]  # with a definition


class ProbedPair(NamedTuple):
    """Cached tokens that were found, and seconds: with a definition that another tenant has asked with, and with one
    that nobody has."""

    guessed_hits: float
    fresh_hits: float
    guessed_s: float
    fresh_s: float


def run(lab: Lab, _seed: int, size: int) -> SliceFound:
    """size: guesses."""
    if find_spec("vllm") is None:
        raise Skipped("vLLM is not installed here (make install brings it)")
    settings = lab.target().settings
    with serving(find_base(STARTER).folder, lab.folder / "vllm.log", settings, lambda _s: None) as server:
        target = lab.target(vllm_urls=(server.endpoint.url,))
        try:
            return asyncio.run(_probe(lab, target.settings, target.tenants, server.endpoint, size))
        finally:
            lab.done_with(target)


async def _probe(
    lab: Lab, settings: Any, tenants: Sequence[AttackedTenant], endpoint: Any, size: int
) -> SliceFound:
    victim, attacker = tenants
    async with running(lab.make_api(settings)) as clients, endpoint.async_client() as server:
        asking = [_asker(await clients.of(one.admin_key)) for one in (victim, attacker)]

        async def hits() -> float:
            found = _HITS.findall((await server.get("/metrics")).text)
            if not found:
                raise ServingError("vLLM does not say how much it found in its prefix cache")
            return sum(map(float, found))

        return judged(await probed(hits, asking[0], asking[1], size))


def _asker(client: httpx.AsyncClient) -> Ask:
    async def ask(definition: str) -> None:
        categories = [
            {"key": "a", "name": "A", "definition": definition},
            {"key": "b", "name": "B", "definition": "Something else."},
        ]
        good(
            await client.post("/v1/classify", json={"text": _TEXT, "categories": categories, "mode": "fast"})
        )

    return ask


async def probed(hits: CountHits, victim: Ask, attacker: Ask, size: int) -> list[ProbedPair]:
    pairs = []
    for ask in (victim, attacker):  # what every question begins with
        await ask(definition())
    for number in range(size):
        secret = definition()
        await victim(secret)
        found: dict[bool, tuple[float, float]] = {}
        for guessed in (True, False) if number % 2 else (False, True):
            before, began = await hits(), time.perf_counter()
            await attacker(secret if guessed else definition())
            took = time.perf_counter() - began
            found[guessed] = await hits() - before, took
        pairs.append(ProbedPair(found[True][0], found[False][0], found[True][1], found[False][1]))
    return pairs


def definition() -> str:
    """Always as many tokens: words of the starter's that mean nothing here, in an order that is never the same."""
    words = ("parcel", "money", "order", "late", "refund", "where", "card", "shop")
    return " ".join(secrets.choice(words) for _ in range(WORDS))


def judged(pairs: Sequence[ProbedPair]) -> SliceFound:
    """A guess that finds more than a fresh definition does tells that somebody has asked with it. One block may come by
    chance, where two definitions begin alike."""
    failures = [
        f"a guess found {pair.guessed_hits - pair.fresh_hits:.0f} more cached tokens than a definition that is new"
        for pair in pairs
        if pair.guessed_hits > pair.fresh_hits + CPU_BLOCK
    ]
    ratios = [pair.guessed_s / pair.fresh_s for pair in pairs]
    return SliceFound(len(pairs), failures, {"time_ratio_median": statistics.median(ratios)})
