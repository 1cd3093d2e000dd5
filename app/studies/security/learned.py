"""Whether what one tenant's model has learned comes out where another one asks. Two adapters are trained, each on the
word that is its tenant's alone, and answer side by side on a real vLLM.

How likely a model finds a word is held against words that were made in the same way and that nobody has learned: of all
of them the tenant's own must be the likeliest, or nothing was learned and nothing is shown; the other's must not.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import httpx

from app.errors import ServingError
from app.runs import output
from app.runs.supervisor import run_stage
from app.serving import adapters
from app.serving.adapters import Adapter
from app.serving.base import STARTER, find_base
from app.serving.vllm import VllmEndpoint, serving
from app.settings import Settings
from app.studies.asking import read_text
from app.studies.security.lab import (
    RANK,
    AttackedTenant,
    Lab,
    logging_to,
    new_word,
    running,
    schema_with,
)
from app.studies.security.results import Skipped, SliceFound
from evaluation.inference.predictor import VllmPredictor
from evaluation.inference.tokenizer_files import load_codes
from training.config import StageManifest
from training.protocol import ADAPTER

_SENTENCE: Final = "The code word of the house is {}."
_LEARNED: Final = (_SENTENCE, "Nobody else knows the code word {}.", "They open the door with the word {}.")
_STAGE: Final = {
    "kind": "sft",
    "max_steps": 60,
    "batch_size": 8,
    "micro_batch_size": 8,
    "learning_rate": 2e-3,
    "warmup_steps": 0,
    "schedule": "constant",
    "lora": {"rank": RANK, "alpha": 2 * RANK},
}
_AT_ONCE: Final = 8

Read: TypeAlias = Callable[[str, str], Awaitable[float]]  # of a model, a text: its log-prob


class WordsRead(NamedTuple):
    """Log-probs of words to one tenant's model: its own, the other tenant's, and some that nobody has learned."""

    own: float
    other: float
    fresh: list[float]


def run(lab: Lab, _seed: int, size: int) -> SliceFound:
    """size: words that nobody has learned."""
    for package in ("vllm", "torch"):
        if find_spec(package) is None:
            raise Skipped(f"{package} is not installed here (make install brings it)")
    settings, tenants = lab.settings, lab.target().tenants
    learned = [_trained(tenant, number, lab, settings) for number, tenant in enumerate(tenants)]
    wide = settings.model_copy(update={"vllm_max_adapters": len(learned), "vllm_max_lora_rank": RANK})
    log = lab.folder / "learned.jsonl"
    with serving(find_base(STARTER).folder, lab.folder / "vllm.log", wide, lambda _s: None) as server:
        target = lab.target(vllm_urls=(server.endpoint.url,), log_level="DEBUG")
        try:
            with logging_to(log, "DEBUG"):
                found = asyncio.run(_asked(lab, target.settings, tenants, learned, server.endpoint, size))
        finally:
            lab.done_with(target)
    logged = log.read_text()
    told = ["the log holds a tenant's word" for tenant in tenants if tenant.secret in logged]
    return found._replace(cases=found.cases + len(tenants), failures=[*found.failures, *told])


def _trained(tenant: AttackedTenant, number: int, lab: Lab, settings: Settings) -> Adapter:
    """Raises: StageFailed."""
    folder = lab.folder / f"learned-{number}"
    folder.mkdir()
    texts, conversations = folder / "texts.jsonl", folder / "conversations.jsonl"
    texts.write_text("\n".join(json.dumps({"text": one.format(tenant.secret)}) for one in _LEARNED))
    conversations.write_text("")
    manifest = StageManifest(
        stage=_STAGE | {"text": texts},
        base=str(find_base(STARTER).folder),
        category_schema=schema_with(tenant.secret),
        conversations=conversations,
        out=folder / "sft",
    )
    run_stage(output.prepare(manifest, []), manifest.out, settings, lambda _event: None)
    return adapters.freeze(manifest.out / ADAPTER, folder / "adapters", RANK)


async def _asked(
    lab: Lab,
    settings: Settings,
    tenants: Sequence[AttackedTenant],
    learned: Sequence[Adapter],
    endpoint: VllmEndpoint,
    size: int,
) -> SliceFound:
    async with running(lab.make_api(settings)) as clients, endpoint.async_client() as server:
        for tenant, adapter in zip(tenants, learned, strict=True):
            await _load(server, tenant.adapter.sha256, adapter.folder)
        codes, failures = load_codes(find_base(STARTER).folder, 2), list[str]()
        for asker, other in (tenants, tenants[::-1]):
            failures += await _through_the_api(await clients.of(asker.admin_key), asker, other)

        async def read(model: str, text: str) -> float:
            return await read_text(VllmPredictor(server, model, codes), text)

        found = await words_read(read, tenants, [new_word() for _ in range(size)])
    for number, one in enumerate(found):
        failures += [f"tenant {number}: {wrong}" for wrong in wrong_in(one)]
    likelier = max(share_less_likely(one) for one in found)
    return SliceFound(len(tenants) + len(found) * (size + 2), failures, {"other_likelier_than": likelier})


async def _load(server: httpx.AsyncClient, name: str, folder: Path) -> None:
    """Under the name by which the API asks for the tenant's model."""
    body = {"lora_name": name, "lora_path": str(folder.resolve())}
    answer = await server.post("/v1/load_lora_adapter", json=body)
    if not answer.is_success:
        raise ServingError("vLLM refused an adapter that was just trained", [answer.text[:500]])


async def _through_the_api(
    client: httpx.AsyncClient, asker: AttackedTenant, other: AttackedTenant
) -> list[str]:
    """What is wrong with the asker's answer to the beginning of what the other's model has learned."""
    body = {"schema_id": asker.ids["schema_id"], "text": _SENTENCE.partition("{}")[0].strip()}
    answer = await client.post("/v1/classify", json=body)
    if not answer.is_success:
        return [f"was answered {answer.status_code}, so that nothing was tried: {answer.text[:200]}"]
    return ["an answer shows the other tenant's word"] if other.secret in answer.text else []


async def words_read(read: Read, tenants: Sequence[AttackedTenant], fresh: Sequence[str]) -> list[WordsRead]:
    """By each tenant's model; both are asked at once, and some of each at a time."""
    places = asyncio.Semaphore(_AT_ONCE)

    async def one(model: str, word: str) -> float:
        async with places:
            return await read(model, _SENTENCE.format(word))

    async def of(asker: AttackedTenant, other: AttackedTenant) -> WordsRead:
        words = [asker.secret, other.secret, *fresh]
        own, others, *unlearned = await asyncio.gather(*(one(asker.adapter.sha256, word) for word in words))
        return WordsRead(own, others, unlearned)

    first, second = tenants
    return list(await asyncio.gather(of(first, second), of(second, first)))


def wrong_in(found: WordsRead) -> list[str]:
    wrong = []
    if found.own <= max(found.fresh):
        wrong.append("its model has not learned its own word, so that nothing was tried")
    if found.other > max(found.fresh):
        wrong.append("its model finds the other tenant's word likelier than all that nobody has learned")
    return wrong


def share_less_likely(found: WordsRead) -> float:
    """Of words that nobody has learned, those less likely than the other tenant's: by chance any share is as likely."""
    return sum(one < found.other for one in found.fresh) / len(found.fresh)
