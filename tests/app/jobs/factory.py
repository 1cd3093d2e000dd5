"""A tenant with a run, and jobs in it, as the slices above will make them."""

from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from app.infra.db.clock import now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.datasets import Dataset
from app.infra.tables.jobs import Job, JobKind, JobState
from app.infra.tables.runs import Run
from app.infra.tables.schemas import Schema, SchemaVersion
from app.jobs import repository, service
from app.jobs.ends import End, Failed, JobError, JobOutcome, Succeeded
from app.jobs.lease import NOTHING, Note, Ticket
from app.settings import Settings

DONE = Succeeded(JobOutcome({"rows": 3}))
BROKEN = Failed(JobError("stage_failed", "loss is NaN", ("at step 12",)))
STAGES = (JobKind.traces, JobKind.sft, JobKind.rl)


class Made(NamedTuple):
    scope: TenantScope
    run_id: UUID


def settings_for(url: str, home: Path, **changed: Any) -> Settings:
    """A beat every 0.2 s, and a lease that nobody loses by being slow."""
    quick = {"job_heartbeat_s": 0.2, "job_lease_s": 60}
    return Settings(home=home, database_url=url, **(quick | changed))


async def make_run(database: Database, scope: TenantScope) -> Made:
    whose = {"tenant_id": scope.tenant_id}
    schema = Schema(id=uuid4(), name="support", draft={}, **whose)
    version = SchemaVersion(id=uuid4(), schema_id=schema.id, number=1, content={}, sha256="0" * 64, **whose)
    dataset = Dataset(id=uuid4(), schema_id=schema.id, name="chats", **whose)
    run = Run(
        id=uuid4(), schema_version_id=version.id, dataset_id=dataset.id, base="starter", settings={},
        snapshot_key="snapshots/1", snapshot_sha256="0" * 64, **whose,
    )  # fmt: skip
    async with transaction(database, scope) as session:
        for row in (schema, version, dataset, run):
            session.add(row)
            await session.flush()
    return Made(scope, run.id)


async def enqueue(database: Database, made: Made, kind: JobKind = JobKind.deploy, **more: Any) -> Job:
    async with transaction(database, made.scope) as session:
        return await service.enqueue(session, made.scope, kind, uuid4(), **more)


async def enqueue_run(database: Database, made: Made) -> list[Job]:
    """One job after the other; only the first may begin."""
    return [
        await enqueue(database, made, kind, run_id=made.run_id, seq=seq, blocked=seq > 0)
        for seq, kind in enumerate(STAGES)
    ]


async def claim(database: Database, job: Job, lease_s: float = 60) -> Job:
    async with transaction(database) as session:
        claimed = await service.claim(session, job.id, "a worker", lease_s)
    assert claimed is not None
    return claimed


async def read(database: Database, job: Job) -> Job:
    scope = TenantScope(job.tenant_id)
    async with transaction(database, scope, read_only=True) as session:
        return await service.get(session, scope, job.id)


async def events(database: Database, job: Job) -> list[str]:
    scope = TenantScope(job.tenant_id)
    async with transaction(database, scope, read_only=True) as session:
        return [row.event["event"] for row in await service.events_of_job(session, scope, job.id)]


async def finish(database: Database, ticket: Ticket, end: End, note: Note = NOTHING) -> Job:
    async with transaction(database, ticket.scope) as session:
        return await service.finish(session, ticket, end, note)


async def let_expire(database: Database, job: Job) -> None:
    async with transaction(database) as session:
        await repository.write(session, job, {"lease_until": now(-1)})


async def expire_all(database: Database) -> list[Job | None]:
    async with transaction(database, read_only=True) as session:
        tickets = await repository.expired(session, 100)
    ended = []
    for ticket in tickets:
        async with transaction(database, ticket.scope) as session:
            ended.append(await service.expire(session, ticket))
    return ended


async def states(database: Database, jobs: list[Job]) -> list[JobState]:
    return [(await read(database, job)).state for job in jobs]
