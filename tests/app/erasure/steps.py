"""A shop in which a customer has said a word, and what becomes of it when it is asked to forget."""

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

from app.erasure import tasks, tidying
from app.infra.db import wiping
from app.infra.db.session import transaction
from app.infra.files.door import FileDoor
from app.infra.files.repository import MadeFrom, NewFile
from app.infra.tables.files import FileKind
from app.infra.tables.jobs import JobKind
from app.infra.tables.runs import ModelVersion
from app.jobs import runner
from app.jobs import service as jobs
from tests.app.runs.conftest import STAGES, Shop
from tests.factories.rows import answer_of, save

WORD = "qwyjibo"
CUSTOMER = "customer-5f2c"


def row(identity: str, text: str, category: str, split: str, **more: Any) -> bytes:
    messages = [{"role": "customer", "text": text}]
    said = {"id": identity, "category": category, "split": split, "messages": messages} | more
    return json.dumps(said).encode() + b"\n"


def lines() -> bytes:
    """Enough to train; three of them are the customer's, of which two have different labels."""
    made = [
        row(
            f"{split}-{n}",
            f"{split} number {n} asks for something else",
            ("refund", "delivery")[n % 2],
            split,
        )
        for split, count in (("train", 30), ("test", 24))
        for n in range(count)
    ]
    own = {"customer_reference": CUSTOMER}
    made += [
        row("said-1", f"my {WORD} never came", "delivery", "train", **own),
        row("said-2", f"where is the {WORD} that I ordered", "delivery", "test", **own),
        row("said-3", f"where is the {WORD} that I ordered", "refund", "test", **own),
    ]
    return b"".join(made) + b'{"id": "broken"}\n'


async def upload(shop: Shop, content: bytes) -> str:
    body = {"name": "chats", "schema_id": shop.schema_id}
    dataset_id: str = (await shop.client.post("/v1/datasets", json=body)).json()["id"]
    path = f"/v1/datasets/{dataset_id}/content"
    sent = await shop.client.put(path, content=content, headers={"Content-Type": "application/jsonl"})
    assert sent.status_code == 202, sent.text
    async with transaction(shop.database, shop.scope, read_only=True) as session:
        job = await jobs.newest_of(session, shop.scope, JobKind.validate_dataset, UUID(dataset_id))
    assert job is not None
    await asyncio.to_thread(runner.run_job, job.id, shop.settings)
    return dataset_id


async def trained(shop: Shop, dataset_id: str) -> str:
    """A finished run, whose trainer repeats what it reads wherever it writes."""
    (shop.play / "aloud").touch()
    run = await shop.run(dataset_id=dataset_id)
    for kind in STAGES:
        job = await shop.work(run["id"], kind)
        assert job.error is None, job.error
    return str(run["id"])


async def keep_an_answer(shop: Shop, run_id: str) -> None:
    """Given to the same customer."""
    shown = await shop.get(f"runs/{run_id}")
    async with transaction(shop.database, shop.scope) as session:
        model = await session.get_one(ModelVersion, UUID(shown["model_version_id"]))
        version = type("Version", (), {"tenant_id": model.tenant_id, "schema_id": UUID(shop.schema_id),
                                       "id": model.schema_version_id})  # fmt: skip
        said = [{"role": "customer", "text": f"is my {WORD} here?"}]
        await save(session, answer_of(version, model, messages=said, customer_reference=CUSTOMER))


async def swept(shop: Shop) -> None:
    """What the dispatcher and a worker do within a minute."""
    for _ in range(3):  # what is changed in one round may go in the next
        await tasks.sweep_files(shop.database, shop.settings)
    await tidying.tidy(shop.database, shop.settings)
    if shop.settings.database_url.startswith("sqlite"):
        assert await asyncio.to_thread(wiping.wipe, shop.settings.database_url, vacuum=True)


async def put_report(shop: Shop, folder: Path, made_from: MadeFrom, gate_id: UUID, content: bytes) -> str:
    """Through the door that a gate's job takes."""
    key = f"tenants/{shop.scope.tenant_id}/gates/{gate_id}/1/report.json"
    local = folder / "report.json"
    local.write_bytes(content)
    await FileDoor(shop.storage, shop.database, shop.scope).put(
        local, NewFile(key, FileKind.report, made_from)
    )
    return key
