"""Words that were handed in and then deleted, through the API alone, are looked for in every file below the home: the
database with its free pages and its journal, the storage, and whatever else lies there. Names that a tenant gives its
things are not among them: the audit trail keeps those."""

import asyncio
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from app.auth.principal import Scope
from app.infra.db.engine import open_database
from app.jobs import runner
from app.jobs.handlers import SWEEPS
from app.settings import Settings
from app.studies.security.lab import AttackedCopy, Clients, Lab, good, running, schema_with
from app.studies.security.operations import ApiDocument
from app.studies.security.results import Skipped, SliceFound

TENANT = "DELETE /v1/tenants/{tenant_id}"
_ROWS = 48
_SWEEPS_OVER = 3  # what one lets go of is for another to remove
_BLOCK_BYTES = 1 << 20


def run(lab: Lab, _seed: int, _size: int) -> SliceFound:
    """All there are, whatever the seed. Raises: Skipped where a tenant cannot be deleted."""
    target = lab.target()
    try:
        words = asyncio.run(_planted_and_deleted(lab, target))
        asyncio.run(_swept(target.settings))
        found = {word: [*places_of(word, target.settings.home)] for word in words.values()}
    finally:
        lab.done_with(target)
    failures = [
        f"{what}: still in {', '.join(found[word][:5])}" for what, word in words.items() if found[word]
    ]
    return SliceFound(len(words), failures)


def places_of(word: str, folder: Path) -> Iterator[str]:
    """Files that hold it."""
    wanted = word.encode()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _holds(path, wanted):
            yield str(path.relative_to(folder))


def _holds(path: Path, wanted: bytes) -> bool:
    tail = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            if wanted in tail + block:
                return True
            tail = block[-len(wanted) :]
    return False


async def _planted_and_deleted(lab: Lab, target: AttackedCopy) -> dict[str, str]:
    """The words, by where they stood."""
    api = lab.make_api(target.settings)
    there = {operation.name for operation in ApiDocument(api).operations()}
    if TENANT not in there:
        raise Skipped(f"the API cannot delete a tenant yet ({TENANT}), so that nothing can be shown")
    async with running(api) as clients:
        platform = await clients.of(target.platform_key)
        conversation = await _of_a_conversation(clients, target)
        dataset = await _of_a_dataset(clients, target)
        tenant = await _of_a_tenant(clients, platform, target.settings)
    return {"a conversation": conversation, "a data set": dataset, "a tenant": tenant}


async def _swept(settings: Settings) -> None:
    """What the dispatcher does every few minutes."""
    database = open_database(settings.database_url)
    try:
        for _ in range(_SWEEPS_OVER):
            for sweep in SWEEPS.values():
                await sweep.work(database, settings)
    finally:
        await database.close()


async def _of_a_conversation(clients: Clients, target: AttackedCopy) -> str:
    word, mine = _word(), target.tenants[0]
    client = await clients.of(mine.admin_key)
    path = f"/v1/datasets/{mine.ids['dataset_id']}/conversations"
    made = good(await client.post(path, json=_conversation(word, word)))
    good(await client.delete(f"/v1/conversations/{made['id']}"))
    return word


async def _of_a_dataset(clients: Clients, target: AttackedCopy) -> str:
    word, mine = _word(), target.tenants[0]
    client = await clients.of(mine.admin_key)
    dataset_id = await _uploaded(client, mine.ids["schema_id"], word, target.settings)
    run_id = await _cancelled_run(client, mine.ids["schema_id"], dataset_id)
    good(await client.delete(f"/v1/runs/{run_id}"))
    good(await client.delete(f"/v1/datasets/{dataset_id}"))
    return word


async def _of_a_tenant(clients: Clients, platform: httpx.AsyncClient, settings: Settings) -> str:
    """With one of everything that holds words: a schema, a file, conversations, a run's snapshot, a kept answer."""
    word = _word()
    name = {"name": _word(), "ungated": "api", "keep_answers_days": 30}
    tenant = good(await platform.post("/v1/tenants", json=name))
    there = {"X-Tenant": tenant["id"]}
    asked = {"name": "admin", "scopes": [Scope.admin]}
    key = good(await platform.post("/v1/api-keys", json=asked, headers=there))
    client = await clients.of(key["key"])
    draft = schema_with(word).model_dump(mode="json", exclude={"name"}, exclude_none=True)
    schema = good(await client.post("/v1/schemas", json={"name": _word(), "draft": draft}))
    good(await client.post(f"/v1/schemas/{schema['id']}/publish"))
    dataset_id = await _uploaded(client, schema["id"], word, settings)
    good(await client.post("/v1/classify", json={"schema_id": schema["id"], "text": f"where is my {word}"}))
    await _cancelled_run(client, schema["id"], dataset_id)
    good(await platform.delete(f"/v1/tenants/{tenant['id']}", headers=there))
    return word


async def _cancelled_run(client: httpx.AsyncClient, schema_id: str, dataset_id: str) -> str:
    """With a frozen copy of the data set."""
    run = {"schema_id": schema_id, "dataset_id": dataset_id, "preset": "smoke"}
    run_id: str = good(await client.post("/v1/runs", json=run))["id"]
    good(await client.post(f"/v1/runs/{run_id}/cancel"))
    return run_id


async def _uploaded(client: httpx.AsyncClient, schema_id: str, word: str, settings: Settings) -> str:
    """Enough of it for a run."""
    body = {"name": _word(), "schema_id": schema_id}
    dataset_id: str = good(await client.post("/v1/datasets", json=body))["id"]
    rows = [
        _conversation(f"{word}-{number}", word)
        | {"category": ("refund", "delivery")[number % 2], "split": ("train", "test")[number // 2 % 2]}
        for number in range(_ROWS)
    ]
    path, headers = f"/v1/datasets/{dataset_id}", {"Content-Type": "application/jsonl"}
    content = "\n".join(map(json.dumps, rows)).encode()
    good(await client.put(f"{path}/content", content=content, headers=headers))
    job_id = good(await client.get(path))["validation"]["job_id"]
    await asyncio.to_thread(runner.run_job, UUID(job_id), settings)
    return dataset_id


def _conversation(identity: str, word: str) -> dict[str, Any]:
    """Like no other, so that none is a duplicate."""
    said = f"{word} {' '.join(secrets.token_hex(3) for _ in range(10))}"
    return {"id": identity, "messages": [{"role": "customer", "text": said}]}


def _word() -> str:
    return f"zd{secrets.token_hex(8)}"
