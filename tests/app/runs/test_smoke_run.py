"""A whole run with nothing replaced: API, dispatcher, embedded Redis, a worker, real training of the starter."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.processes import log_tail, spawn, stop
from app.infra.storage import open_storage
from app.local.redis import embedded_redis
from app.runs import service
from app.serving.adapter_store import fetch_adapter
from app.settings import Settings
from training.starter.world import DemoTenant, demo_tenant

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
ROOT = Path(__file__).parents[3]
WORKER = "from app.worker import run_worker as w; from app.jobs.handlers import Queue; w(s, list(Queue))"
DISPATCHER = "from app.worker import run_dispatcher as d; d(s)"
TIMEOUT_S = 560


@pytest.fixture
def parts(settings: Settings, tmp_path: Path) -> Iterator[Path]:
    """The processes of the product beside the API. The folder of their logs."""
    with ExitStack() as stack:
        server = stack.enter_context(embedded_redis(tmp_path / "redis", Settings()))
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "STEERWISE_HOME": str(settings.home),
            "STEERWISE_DATABASE_URL": settings.database_url,
            "STEERWISE_STORAGE_URL": settings.storage_url,
            "STEERWISE_REDIS_URL": server.url,
        }
        for name, body in (("dispatcher", DISPATCHER), ("worker", WORKER)):
            code = f"from app.settings import load_settings; s = load_settings(); {body}"
            child = spawn([sys.executable, "-c", code], tmp_path / f"{name}.log", environment)
            stack.callback(stop, child, 20)
        yield tmp_path


async def until(client: httpx.AsyncClient, path: str, ended: set[str], logs: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while found.get("state") not in ended:
                await asyncio.sleep(0.5)
                found = (await client.get(path)).json()
    except TimeoutError:
        raise AssertionError(f"{found}\n" + "\n".join(log_tail(logs / "worker.log", 30))) from None
    return found


async def upload(client: httpx.AsyncClient, tenant: DemoTenant, logs: Path) -> dict[str, str]:
    """What a run is asked for with."""
    schema = tenant.category_schema
    draft = schema.model_dump(mode="json", exclude={"name"})
    made = (await client.post("/v1/schemas", json={"name": schema.name, "draft": draft})).json()
    assert (await client.post(f"/v1/schemas/{made['id']}/publish")).status_code == 201
    body = {"name": "chats", "schema_id": made["id"]}
    dataset = (await client.post("/v1/datasets", json=body)).json()
    lines = "".join(c.model_dump_json(exclude_unset=True) + "\n" for c in tenant.conversations)
    path, headers = f"/v1/datasets/{dataset['id']}", {"Content-Type": "application/jsonl"}
    sent = await client.put(f"{path}/content", content=lines.encode(), headers=headers)
    assert sent.status_code == 202, sent.text
    ready = await until(client, path, {"ready", "failed"}, logs)
    assert ready["state"] == "ready", ready
    return {"schema_id": made["id"], "dataset_id": dataset["id"]}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_smoke_run_goes_from_an_upload_to_a_model_that_can_be_served(
    client: httpx.AsyncClient, database: Database, scope: TenantScope, settings: Settings, parts: Path
) -> None:
    asked = await upload(client, demo_tenant(seed=1), parts)
    answer = await client.post("/v1/runs", json=asked | {"preset": "smoke"})
    assert answer.status_code == 202, answer.text
    path = f"/v1/runs/{answer.json()['id']}"
    run = await until(client, path, {"succeeded", "failed", "cancelled"}, parts)
    assert run["state"] == "succeeded", run
    assert [stage["attempt"] for stage in run["stages"]] == [1, 1, 1, 1]
    assert run["stages"][0]["metrics"]["kept"] > 0
    assert all(stage["metrics"]["step"] > 0 for stage in run["stages"])
    async with transaction(database, scope, read_only=True) as session:
        model = await service.model_version(session, scope, UUID(run["model_version_id"]))
    storage = open_storage(settings.storage_url)
    folder = fetch_adapter(storage, model.adapter_key, model.adapter_sha256, settings.home / "adapters")
    assert (folder / "adapter_model.safetensors").stat().st_size > 0
    log = await client.get(f"{path}/stages/sft/log")
    assert log.status_code == 200 and log.text.startswith("=== start 1 ===")
