"""A fake vLLM that answers on a socket, settings that name it, and a worker that does one job when it is told to."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from app.deployments import service as deployments
from app.deployments import tasks as deployment_tasks
from app.gates import service as gates
from app.gates import tasks as gate_tasks
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.jobs import Job, JobKind
from app.jobs import runner
from app.jobs import service as jobs
from app.jobs.handlers import register
from app.settings import Settings
from tests.evaluation.models import dice
from tests.servers.vllm import FakeVllm, listening, socket_path


@pytest.fixture(autouse=True)
def handlers() -> None:
    """Other tests put their own in the place of these."""
    register(JobKind.gate, gate_tasks.measure, gates.give_up)
    register(JobKind.deploy, deployment_tasks.deploy, deployments.give_up)


@pytest.fixture
def vllm() -> FakeVllm:
    return FakeVllm({"base": dice()})


@pytest.fixture
def vllm_url(vllm: FakeVllm) -> Iterator[str]:
    with socket_path() as path, listening(vllm, path) as url:
        yield url


@pytest.fixture
def settings(tmp_path: Path, database_url: str, vllm_url: str) -> Settings:
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        storage_url=str(tmp_path / "storage"),
        vllm_urls=(vllm_url,),
    )


class Worker:
    def __init__(self, database: Database, settings: Settings):
        self.database, self.settings = database, settings

    async def job(self, scope: TenantScope, kind: JobKind, subject_id: UUID) -> Job:
        async with transaction(self.database, scope, read_only=True) as session:
            job = await jobs.newest_of(session, scope, kind, subject_id)
        assert job is not None
        return job

    async def work(self, scope: TenantScope, kind: JobKind, subject_id: UUID) -> Job:
        """Its newest job, once; returns the row as it is then."""
        job = await self.job(scope, kind, subject_id)
        await asyncio.to_thread(runner.run_job, job.id, self.settings)
        return await self.job(scope, kind, subject_id)


@pytest.fixture
def worker(database: Database, settings: Settings) -> Worker:
    return Worker(database, settings)
