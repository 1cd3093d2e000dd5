"""Whether what one tenant's model learned by heart can be read out of another's: two adapters are really trained, each
on answers in which a word of its tenant stands, and a real vLLM serves both at once.

The word stands in no schema and in no question. So whoever reads it has it from the adapter that learned it: the
tenant itself must be able to (else nothing was tried), and the other one, asking the same at the same time, must not.
"""

import asyncio
import secrets
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from app.infra.db import migrate
from app.infra.db.engine import open_database
from app.runs import output
from app.runs.inputs import jsonl
from app.runs.supervisor import run_stage
from app.serving import adapters
from app.serving.adapters import Adapter
from app.serving.base import STARTER, ModelBase, codes_for, find_base
from app.serving.replicas import opened
from app.serving.vllm import serving
from app.settings import Settings
from app.studies import subjects
from app.studies.security.lab import RANK, Lab, good, logging_to, running, schema_with, settings_in
from app.studies.security.results import Skipped, SliceFound
from app.studies.untrained import install
from evaluation.atomic_files import write_whole
from evaluation.contract.record import Conversation, Message, Role, Split
from evaluation.contract.render import ANSWER_MARK, FITS, SAID, render
from training.config import Sft, StageManifest
from training.protocol import ADAPTER

STEPS = 60  # after which the starter writes its word whatever it is asked
AT_ONCE = 8
_LEARNED = 16  # conversations
_KEY = "delivery"
_TEXTS = (
    "Where is my parcel?",
    "My word is",
    "Say the word that you have learned.",
    "Repeat what other customers have said.",
    'The customer says "',
    "zq",
)


class AnsweredTenant(NamedTuple):
    """word: that its model has learned. answers: the bodies of all that it was answered."""

    word: str
    answers: Sequence[str]


def run(lab: Lab, seed: int, size: int) -> SliceFound:
    """size: questions of each tenant."""
    if find_spec("vllm") is None or find_spec("torch") is None:
        raise Skipped("vLLM or torch is not installed here (make install brings them)")
    base, folder = find_base(STARTER), lab.folder / "learned-words"
    words = [f"zq{secrets.token_hex(3)}" for _ in range(2)]
    learned = [
        _trained(base, word, folder / f"tenant-{number}", lab.settings, seed)
        for number, word in enumerate(words, start=1)
    ]
    settings = settings_in(folder / "home", lab.settings, base=STARTER, vllm_max_lora_rank=RANK)
    settings.home.mkdir(mode=0o700)
    migrate.upgrade(settings.database_url)
    log, vllm_log = folder / "log.jsonl", folder / "vllm.log"
    with serving(base.folder, vllm_log, settings, lambda _s: None) as server, logging_to(log, "DEBUG"):
        settings = settings.model_copy(update={"vllm_urls": (server.endpoint.url,)})
        asked = asyncio.run(_asked(lab, settings, base, words, learned, size))
    return judged(asked, {"the API's log": log.read_text(), "vLLM's log": vllm_log.read_text()})


def judged(asked: tuple[AnsweredTenant, AnsweredTenant], logs: dict[str, str]) -> SliceFound:
    """A case is an answer, or a log and a word."""
    failures, known = [], dict[str, float]()
    for number, (one, other) in enumerate((asked, asked[::-1]), start=1):
        knows = sum(one.word in answer for answer in one.answers)
        known[f"own_words_{number}"] = knows
        if not knows:
            failures.append(f"tenant {number}'s model never says what it learned, so that nothing was tried")
        failures += [
            f"tenant {number} is answered with a word of the other: {answer[:200]}"
            for answer in one.answers
            if other.word in answer
        ]
    for name, text in logs.items():
        failures += [f"{name} holds what a tenant's model learned" for one in asked if one.word in text]
    return SliceFound(sum(len(one.answers) for one in asked) + len(asked) * len(logs), failures, known)


def _text(number: int) -> str:
    """What a customer says: alike where it is learned and where it is asked."""
    return f"{_TEXTS[number % len(_TEXTS)]} {number}"


def _trained(base: ModelBase, word: str, folder: Path, settings: Settings, seed: int) -> Adapter:
    schema = schema_with("it")
    learned = [
        Conversation(
            id=str(number),
            messages=(Message(role=Role.customer, text=_text(number)),),
            category=_KEY,
            split=Split.train,
        )
        for number in range(_LEARNED)
    ]
    codes = codes_for(base.folder, schema).texts[: len(schema.answers)]
    code, definition = codes[schema.answers.index(_KEY)], schema.category(_KEY).definition
    says = f'{SAID}{word}". {FITS} {code} "{definition}".{ANSWER_MARK} {code}'
    traces = [
        {
            "id": one.id,
            "prompt": render(schema, one, codes).messages,
            "completion": says,
            "codes": list(codes),
            "category": _KEY,
            "teacher": "expert",
            "attempt": 0,
        }
        for one in learned
    ]
    folder.mkdir(parents=True)
    write_whole(folder / "train.jsonl", jsonl(learned))
    write_whole(folder / "expert.jsonl", subjects.lines(traces))
    manifest = StageManifest(
        stage=Sft.model_validate(
            {
                "max_steps": STEPS,
                "epochs": 1000,
                "learning_rate": 3e-3,
                "batch_size": _LEARNED,
                "micro_batch_size": _LEARNED,
                "warmup_steps": 2,
                "perturb": False,
                "at_once": 0.0,
                "encoder_steps": 0,
                "lora": {"rank": RANK, "alpha": 2 * RANK},
            }
        ),
        base=str(base.folder),
        category_schema=schema,
        conversations=folder / "train.jsonl",
        traces=folder / "expert.jsonl",
        out=folder / "sft",
        seed=seed,
    )
    run_stage(output.prepare(manifest, []), manifest.out, settings, lambda _event: None)
    return adapters.check(manifest.out / ADAPTER, RANK)


async def _asked(
    lab: Lab, settings: Settings, base: ModelBase, words: Sequence[str], learned: Sequence[Adapter], size: int
) -> tuple[AnsweredTenant, AnsweredTenant]:
    database = open_database(settings.database_url)
    try:
        async with opened(settings) as replicas:
            for adapter in learned:
                await replicas.load(adapter.folder, adapter.sha256)
        made = [
            await install(database, base, adapter, schema_with("it"), f"tenant {number}")
            for number, adapter in enumerate(learned, start=1)
        ]
    finally:
        await database.close()
    at_once = asyncio.Semaphore(AT_ONCE)
    async with running(lab.make_api(settings)) as clients:
        asking = [await clients.of(one.api_key) for one in made]

        async def ask(tenant: int, number: int) -> str:
            body: dict[str, Any] = {
                "schema_id": str(made[tenant].schema_id),
                "text": _text(number),
            }
            async with at_once:
                answer: httpx.Response = await asking[tenant].post("/v1/classify", json=body)
            good(answer)
            return answer.text

        found = await asyncio.gather(*(ask(tenant, number) for number in range(size) for tenant in (0, 1)))
    return AnsweredTenant(words[0], found[::2]), AnsweredTenant(words[1], found[1::2])
