"""The API with a tenant whose dataset is ready, and a worker that does the jobs of a run with a quick trainer."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest

from app.datasets.tasks import validate
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.storage import Storage, open_storage
from app.infra.tables.jobs import Job, JobKind
from app.jobs import runner
from app.jobs import service as jobs
from app.jobs.handlers import HANDLERS
from app.runs import kinds, tasks
from app.settings import Settings
from tests.app.runs import work
from tests.callers import Callers

DRAFT: dict[str, Any] = {
    "none_of_these": True,
    "categories": [
        {"key": "refund", "name": "Refund", "definition": "Wants money back."},
        {"key": "delivery", "name": "Delivery", "definition": "Asks where an order is."},
    ],
}
STAGES = ["traces", "sft", "distill", "rl"]


class Shop(NamedTuple):
    """client: with a key of the tenant `scope`. stranger: with one of another tenant. play: see trainer.py."""

    callers: Callers
    settings: Settings
    database: Database
    scope: TenantScope
    client: httpx.AsyncClient
    stranger: httpx.AsyncClient
    schema_id: str
    play: Path

    @property
    def storage(self) -> Storage:
        return open_storage(self.settings.storage_url)

    async def dataset(self, train: int = 30, test: int = 24) -> str:
        body = {"name": "chats", "schema_id": self.schema_id}
        dataset_id: str = (await self.client.post("/v1/datasets", json=body)).json()["id"]
        lines = b"".join(_row(split, i) for split, n in (("train", train), ("test", test)) for i in range(n))
        path = f"/v1/datasets/{dataset_id}/content"
        sent = await self.client.put(path, content=lines, headers={"Content-Type": "application/jsonl"})
        assert sent.status_code == 202, sent.text
        async with transaction(self.database, self.scope, read_only=True) as session:
            job = await jobs.newest_of(session, self.scope, JobKind.validate_dataset, UUID(dataset_id))
        assert job is not None
        await asyncio.to_thread(runner.run_job, job.id, self.settings)
        return dataset_id

    async def order(self, **changes: Any) -> dict[str, Any]:
        """What to POST for a run with few steps."""
        dataset_id = changes.pop("dataset_id", None) or await self.dataset()
        return {"schema_id": self.schema_id, "dataset_id": dataset_id, "preset": "smoke", **changes}

    async def run(self, **changes: Any) -> dict[str, Any]:
        made = await self.client.post("/v1/runs", json=await self.order(**changes))
        assert made.status_code == 202, made.text
        body: dict[str, Any] = made.json()
        return body

    async def get(self, path: str) -> Any:
        found = await self.client.get(f"/v1/{path}")
        assert found.status_code == 200, found.text
        return found.json()

    async def jobs(self, run_id: str) -> list[Job]:
        async with transaction(self.database, self.scope, read_only=True) as session:
            return await jobs.of_run(session, self.scope, UUID(run_id))

    async def work(self, run_id: str, kind: str, settings: Settings | None = None) -> Job:
        """Do that stage's job, if it is to be done now, in this process."""
        [job] = [job for job in await self.jobs(run_id) if job.kind.value == kind]
        await asyncio.to_thread(runner.run_job, job.id, settings or self.settings)
        [job] = [job for job in await self.jobs(run_id) if job.kind.value == kind]
        return job

    def starts(self) -> list[str]:
        """Of each start of the trainer its stage and the step that it began with."""
        path = self.play / "starts"
        return path.read_text().splitlines() if path.exists() else []


def _row(split: str, number: int) -> bytes:
    rng = random.Random(f"{split}{number}")
    text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=30))
    category = ("refund", "delivery")[number % 2]
    row = {"id": f"{split}-{number}", "category": category, "split": split}
    return json.dumps(row | {"messages": [{"role": "customer", "text": text}]}).encode() + b"\n"


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        storage_url=str(tmp_path / "storage"),
        job_heartbeat_s=0.2,
        job_lease_s=60,
        stage_stop_timeout_s=5,
    )


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "play"
    folder.mkdir()
    monkeypatch.setenv("STEERWISE_TEST_PLAY", str(folder))
    return folder


@pytest.fixture
def quick_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages run the quick trainer: a real process, started and followed as any other."""
    monkeypatch.setattr(tasks, "run_stage", work.run_quick_stage)
    monkeypatch.setattr(tasks, "MIRROR_S", 0.2)
    # Tests of jobs leave the registry empty, and a module registers once.
    monkeypatch.setitem(HANDLERS, JobKind.validate_dataset, validate)
    for kind in kinds.STAGES:
        monkeypatch.setitem(HANDLERS, kind, tasks.train)


@pytest.fixture
async def shop(
    callers: Callers,
    client: httpx.AsyncClient,
    other_client: httpx.AsyncClient,
    settings: Settings,
    database: Database,
    scope: TenantScope,
    play: Path,
    quick_stages: None,
) -> Shop:
    made = await client.post("/v1/schemas", json={"name": "orders", "draft": DRAFT})
    schema_id = made.json()["id"]
    published = await client.post(f"/v1/schemas/{schema_id}/publish")
    assert published.status_code == 201, published.text
    return Shop(callers, settings, database, scope, client, other_client, schema_id, play)
