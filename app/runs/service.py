"""Decisions about runs: what one begins with, what its end means, and how it looks from outside."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service as audit
from app.audit.service import Act
from app.datasets import service as datasets
from app.errors import Conflict, InvalidRequest, NotFound, Problem, existing
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.infra.storage import Storage
from app.infra.tables.jobs import Job, JobEvent, JobKind, JobState
from app.infra.tables.runs import ModelVersion, Run, RunState
from app.infra.tables.schemas import SchemaVersion
from app.jobs import service as jobs
from app.runs import budgets, failure, repository
from app.runs.artifacts import PEAK, StageResult
from app.runs.kinds import ENDED, STAGES
from app.runs.repository import Model, OfVersion
from app.runs.requests import DatasetNotEnough, RunRequest
from app.schemas import repository as schema_repository
from app.schemas import service as schemas
from app.settings import Settings
from app.tenants import share
from evaluation.contract.budget import ANSWER_TOKENS

_RUNS_LOOKED_AT = 5


class RunNotFailed(Conflict):
    """Only a run that failed can be retried; one that succeeded, or was cancelled, is begun as another."""

    code = "run_not_failed"


class Cause(NamedTuple):
    """The trigger that begins a run, and what it says why."""

    trigger_id: UUID
    record: dict[str, Any]


class View(NamedTuple):
    """A run with its jobs in their order. newest: by job the event that has its latest metrics."""

    run: Run
    version: SchemaVersion
    jobs: list[Job]
    newest: Mapping[UUID, JobEvent]


async def create(
    session: AsyncSession,
    storage: Storage,
    scope: TenantScope,
    actor_key_id: UUID | None,
    order: RunRequest,
    settings: Settings,
    cause: Cause | None = None,
) -> Run:
    """With the dataset frozen, and a job for each stage of which the first may begin. cause: None: somebody asked.

    Raises: DatasetBusy, DatasetNotEnough, InvalidRequest, NoSpace, NotFound, ShareExceeded, TeacherBudgetSpent.
    """
    await share.check_open(session, scope, share.runs(settings))
    await share.check_gpu(session, scope, settings)
    await budgets.check(session, scope, order.plan.traces, settings)
    version = await _version(session, scope, order)
    missing = await datasets.shortfall(session, scope, order.dataset_id, version)
    if missing:
        problems = [Problem("body.dataset_id", line) for line in missing]
        raise DatasetNotEnough(
            f"the dataset is not enough for a run: {'; '.join(missing)}", problems=problems
        )
    frozen = await datasets.freeze(session, storage, scope, order.dataset_id, version)
    run = Run(
        tenant_id=scope.tenant_id,
        schema_version_id=version.id,
        dataset_id=order.dataset_id,
        snapshot_key=frozen.key,
        snapshot_sha256=frozen.sha256,
        preset=order.preset.value,
        settings=order.plan.model_dump(mode="json"),
        seed=order.seed,
        base=order.base,
        created_by=actor_key_id,
        trigger_id=None if cause is None else cause.trigger_id,
        trigger_record=None if cause is None else cause.record,
    )
    session.add(run)
    await session.flush()
    needs = await _needs(session, scope, order)
    for seq, kind in enumerate(STAGES, start=1):
        await jobs.enqueue(
            session,
            scope,
            kind,
            run.id,
            run_id=run.id,
            seq=seq,
            blocked=seq > 1,
            needs_bytes=needs.get(kind),
            priority=order.priority,
        )
    detail = {"schema_version_id": str(version.id), "dataset_id": str(order.dataset_id)}
    detail |= {"preset": order.preset.value, "snapshot_sha256": frozen.sha256}
    detail |= {} if cause is None else {"trigger_id": str(cause.trigger_id)}
    audit.record(session, actor_key_id, scope.tenant_id, Act("run.created", f"run:{run.id}", detail))
    return run


async def _needs(session: AsyncSession, scope: TenantScope, order: RunRequest) -> dict[JobKind, int]:
    """Of memory, what is said; else what stages of runs like this one have used at most, which fits where they ran."""
    if order.needs_bytes is not None:
        return dict.fromkeys(STAGES, order.needs_bytes)
    like = await repository.newest_like(session, scope, order.base, order.preset.value, _RUNS_LOOKED_AT)
    done = await jobs.of_runs(session, scope, like)
    ends = await jobs.newest_events(session, scope, [job.id for job in done], "succeeded")
    used: dict[JobKind, int] = {}
    for job in done:
        end = ends.get(job.id)
        peak = None if end is None else end.event.get("result", {}).get("metrics", {}).get(PEAK)
        if peak is not None:
            used[job.kind] = max(used.get(job.kind, 0), int(peak))
    return used


async def _version(session: AsyncSession, scope: TenantScope, order: RunRequest) -> SchemaVersion:
    await schemas.get(session, scope, order.schema_id)
    if order.schema_version is not None:
        return await schemas.version(session, scope, order.schema_id, order.schema_version)
    current = await schema_repository.current(session, scope, order.schema_id)
    if current is None:
        problem = Problem("body.schema_id", "names a schema that was never published; publish it first")
        raise InvalidRequest(f"{problem.where} {problem.message}", problems=[problem])
    return current.version


async def get(session: AsyncSession, scope: TenantScope, run_id: UUID, *, lock: bool = False) -> Run:
    """Raises: NotFound."""
    return existing(await repository.get(session, scope, run_id, lock=lock), "run")


async def model_version(session: AsyncSession, scope: TenantScope, model_version_id: UUID) -> ModelVersion:
    """Raises: NotFound."""
    return existing(await repository.model_version(session, scope, model_version_id), "model version")


async def model(session: AsyncSession, scope: TenantScope, model_version_id: UUID) -> Model:
    """With what it is shown with. Raises: NotFound."""
    return existing(await repository.model(session, scope, model_version_id), "model version")


async def view(session: AsyncSession, scope: TenantScope, run_id: UUID) -> View:
    """Raises: NotFound."""
    found = existing(await repository.with_version(session, scope, run_id), "run")
    return (await views(session, scope, [found]))[0]


async def views(session: AsyncSession, scope: TenantScope, rows: Sequence[OfVersion]) -> list[View]:
    by_run: dict[UUID, list[Job]] = defaultdict(list)
    for job in await jobs.of_runs(session, scope, [row.run.id for row in rows]):
        if job.kind in STAGES and job.run_id is not None:
            by_run[job.run_id].append(job)
    ids = [job.id for own in by_run.values() for job in own]
    newest = await jobs.newest_events(session, scope, ids, "metric", "succeeded")
    return [View(row.run, row.version, by_run[row.run.id], newest) for row in rows]


async def job_of_stage(session: AsyncSession, scope: TenantScope, run_id: UUID, kind: str) -> Job:
    """Raises: NotFound."""
    await get(session, scope, run_id)
    found = [job for job in await jobs.of_run(session, scope, run_id) if job.kind.value == kind]
    if not found:
        raise NotFound("the run has no such stage")
    return found[-1]


async def request_cancel(session: AsyncSession, scope: TenantScope, actor_key_id: UUID, run_id: UUID) -> None:
    """What has not begun ends now, a running stage when its worker hears of it. Harmless once the run has ended.

    Raises: NotFound.
    """
    run = await get(session, scope, run_id)
    if run.state in ENDED:
        return
    await jobs.request_cancel_of_run(session, scope, run_id)
    audit.record(session, actor_key_id, scope.tenant_id, Act("run.cancelled", f"run:{run_id}"))


async def retry(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID, run_id: UUID, settings: Settings
) -> None:
    """From the stage that failed: those before it stay as they are. Raises: NotFound, RunNotFailed, ShareExceeded."""
    await get(session, scope, run_id)
    await share.check_open(session, scope, share.runs(settings))
    await share.check_gpu(session, scope, settings)
    again = await jobs.lock_ended_of_run(session, scope, run_id)
    run = await get(session, scope, run_id, lock=True)
    if run.state is not RunState.failed:
        raise RunNotFailed(
            f"the run is {run.state.value}; only one that failed can go on from where it failed"
        )
    if run.lost_rows_at is not None:
        raise RunNotFailed("a conversation that it was to learn from was deleted; begin another run")
    await jobs.requeue_of_run(session, scope, again)
    run.state = RunState.queued if again[0].seq == 1 else RunState.running
    run.error, run.finished_at = None, None
    await session.flush()
    act = Act("run.retried", f"run:{run_id}", {"stage": again[0].kind.value})
    audit.record(session, actor_key_id, scope.tenant_id, act)


# -------------------------------------------------------------------------------------------------- for the workers


class Begun(NamedTuple):
    run: Run
    version: SchemaVersion
    earlier: dict[str, StageResult]


async def begin_stage(session: AsyncSession, scope: TenantScope, run_id: UUID, seq: int) -> Begun:
    """The first stage that starts makes the run a running one. The caller holds the stage's job."""
    run = await get(session, scope, run_id, lock=True)
    if run.state is RunState.queued:
        run.state = RunState.running
    version = await schema_repository.version_by_id(session, scope, run.schema_version_id)
    assert version is not None  # a foreign key of the run
    return Begun(run, version, await _made(session, scope, run_id, seq))


async def _made(
    session: AsyncSession, scope: TenantScope, run_id: UUID, before: int
) -> dict[str, StageResult]:
    done = [job for job in await jobs.of_run(session, scope, run_id) if job.seq < before]
    ends = await jobs.newest_events(session, scope, [job.id for job in done], "succeeded")
    return {job.kind.value: StageResult(**ends[job.id].event["result"]) for job in done}


async def succeed(
    session: AsyncSession, scope: TenantScope, run_id: UUID, made: Sequence[StageResult]
) -> None:
    """made: of every stage, in order. The last one's adapter becomes the model version."""
    run = await get(session, scope, run_id, lock=True)
    last = made[-1]
    assert last.adapter_key is not None
    model = ModelVersion(
        tenant_id=scope.tenant_id,
        run_id=run.id,
        schema_version_id=run.schema_version_id,
        base_sha256=last.base_sha256,
        adapter_sha256=last.sha256,
        adapter_key=last.adapter_key,
        stages=[stage.of_model for stage in made],
        answer_tokens=ANSWER_TOKENS,
    )
    session.add(model)
    await session.flush()
    run.state, run.finished_at, run.model_version_id = RunState.succeeded, utc_now(), model.id
    await session.flush()


async def end_badly(session: AsyncSession, scope: TenantScope, job: Job) -> None:
    """After a stage failed for good, or was cancelled. While another one is still being stopped, its end is awaited."""
    assert job.run_id is not None
    others = await jobs.of_run(session, scope, job.run_id)
    if any(other.state is JobState.running and other.id != job.id for other in others):
        return
    run = await repository.get(session, scope, job.run_id, lock=True)
    if run is None or run.state in ENDED:
        return
    run.state = RunState.cancelled if job.state is JobState.cancelled else RunState.failed
    run.error = failure.of_job(job.error or {}, job.kind.value) if run.state is RunState.failed else None
    if run.lost_rows_at is not None:
        run.state, run.error = RunState.cancelled, failure.lost_rows(job.kind.value)
        await jobs.forget_words(session, scope, [run.id])  # that were on their way
    run.finished_at = utc_now()
    await session.flush()


def shown_event(row: JobEvent, kind: str | None) -> dict[str, Any]:
    """For the listeners of a run: without what names places in the storage."""
    told = {"stage": kind, **row.event}
    if "result" in told:
        told["result"] = {n: told["result"].get(n) for n in ("sha256", "metrics", "seconds")}
    return {"at": row.at.isoformat(), **told}
