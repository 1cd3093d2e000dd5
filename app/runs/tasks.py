"""The jobs of a run: each does one stage in a child process, and the last one makes the model version."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import AppError, Unavailable
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.files import repository as files
from app.infra.tables.jobs import Job
from app.infra.tables.runs import Run, RunState
from app.jobs import service as jobs
from app.jobs.context import JobContext, log_file
from app.jobs.ends import JobOutcome
from app.jobs.handlers import register
from app.jobs.lease import LeaseLost
from app.runs import (
    budgets,
    checkpoints,
    failure,
    folders,
    logs,
    repository,
    requests,
    service,
    stage,
    teachers,
)
from app.runs.artifacts import StageResult
from app.runs.budgets import Costs
from app.runs.kinds import ENDED, STAGES
from app.runs.presets import Plan
from app.runs.reporting import StageReporter
from app.runs.stage import PreparedStage, SnapshotFile, StageWork, Workspace
from app.runs.supervisor import read_result, run_stage
from app.schemas import service as schemas
from app.serving.base import digest, find_base
from training.config import Traces
from training.protocol import LOG

log = structlog.get_logger()
KEPT_FOR_RETRY = timedelta(days=7)
MIRROR_S = 10.0  # how often log and checkpoint are looked at


class _Task(NamedTuple):
    context: JobContext
    workspace: Workspace
    work: StageWork

    @property
    def known(self) -> tuple[Path, ...]:
        """Places of this machine that an error may name."""
        settings = self.context.settings
        return (self.workspace.folder.root, self.workspace.workdir, settings.home, self.work.base.folder)


async def train(context: JobContext) -> JobOutcome:
    """Raises: RunStageFailed, and what says that the database or the lease is gone."""
    await _forget_ended(context)
    assert context.job.run_id is not None
    folder = folders.folder_of(context.settings, context.job.run_id)
    workspace = Workspace(context.files, context.settings, folder, context.workdir)
    out = folder.stage(context.job.seq, context.job.kind.value)
    try:
        return await _train(context, workspace)
    except Unavailable:
        raise  # costs no attempt
    except AppError as error:
        known = (folder.root, workspace.workdir, context.settings.home)
        raise failure.told(error, read_result(out), known) from error


async def _train(context: JobContext, workspace: Workspace) -> JobOutcome:
    context.progress(0, None, "starting")
    work = await _begin(context)
    task = _Task(context, workspace, work)
    wait_s = context.settings.job_lease_s
    with await context.in_thread(folders.lock, workspace.folder, wait_s, context.cancelled) as lock:
        prepared = await context.in_thread(stage.prepare, workspace, work)
        for notice in prepared.notices:
            context.event({"event": "progress", "stage": work.kind, "message": notice})
        async with context.transaction() as session:
            await jobs.note_inputs(session, context.ticket, prepared.inputs_hash)
        made = await _earlier_result(task, prepared)
        if made is not None:
            message = "an earlier attempt had finished this stage"
            context.event({"event": "progress", "stage": work.kind, "message": message})
        else:
            await _run(task, prepared, lock.fileno())
            made = await context.in_thread(stage.put_away, workspace, work, prepared)
    return await _outcome(task, made)


async def _begin(context: JobContext) -> StageWork:
    run_id, kind = context.job.run_id, context.job.kind.value
    assert run_id is not None
    async with context.transaction() as session:
        begun = await service.begin_stage(session, context.scope, run_id, context.job.seq)
        [asked] = [one for one in Plan.model_validate(begun.run.settings).stages if one.kind == kind]
        if isinstance(asked, Traces):
            granted = await budgets.grant(session, context.scope, run_id, asked, context.settings)
            asked = teachers.resolved(asked, context.settings, granted)
        before = await repository.spent(session, context.scope, run_id)
        run, answers_id = begun.run, None
        if isinstance(asked, Traces):
            answers_id = await files.teachers_answers(session, context.scope, run.dataset_id)
    base = await context.in_thread(find_base, run.base)
    return StageWork(
        run_id=run_id,
        scope=context.scope,
        number=context.job.seq,
        stage=requests.within(asked, context.settings.stage_max_s),
        seed=run.seed,
        schema=schemas.content_of(begun.version),
        snapshot=SnapshotFile(run.snapshot_key, run.snapshot_sha256),
        earlier=begun.earlier,
        base=base,
        base_sha256=await context.in_thread(digest, base),
        spent_usd=before,
        answers_id=answers_id,
    )


async def _earlier_result(task: _Task, prepared: PreparedStage) -> StageResult | None:
    """An attempt before this one may have done all of it, and been cut off before it could say so."""
    context = task.context
    if context.job.inputs_hash != prepared.inputs_hash:
        await context.in_thread(stage.start_over, prepared)
        return None
    made = await context.in_thread(stage.earlier_result, task.workspace, task.work, prepared)
    if made is None and await context.in_thread(
        stage.restore, task.workspace, prepared, context.job.checkpoint_uri
    ):
        log.info("checkpoint_restored", key=context.job.checkpoint_uri)
    return made


# ------------------------------------------------------------------------------------------------- the child process


async def _run(task: _Task, prepared: PreparedStage, lock: int) -> None:
    """lock: the descriptor of the folder's lock, which the child holds as long as it lives."""
    context, printed = task.context, prepared.out / LOG
    costs = Costs(task.work.spent_usd)
    reporter = StageReporter(context, task.work.kind, task.work.stage.max_seconds, costs)
    offset = printed.stat().st_size if printed.is_file() else 0
    copy_log = partial(logs.copy, printed, offset, context.log, task.known)
    try:
        async with _mirrored(task, prepared, copy_log, costs):
            await context.in_thread(
                run_stage,
                prepared.path,
                prepared.out,
                context.settings,
                reporter,
                context.cancelled,
                (lock,),
            )
    finally:
        reporter.close()
        await _keep_costs(task, costs)
        with suppress(OSError):  # no log decides about its job
            copy_log()


@asynccontextmanager
async def _mirrored(
    task: _Task, prepared: PreparedStage, copy_log: Callable[[], bool], costs: Costs
) -> AsyncIterator[None]:
    mirroring = asyncio.create_task(_mirror(task, prepared, copy_log, costs))
    try:
        yield
    finally:
        mirroring.cancel()
        await asyncio.wait([mirroring])


async def _mirror(task: _Task, prepared: PreparedStage, copy_log: Callable[[], bool], costs: Costs) -> None:
    """Log and checkpoints into the storage while the stage runs. No trouble with that is a reason to stop it."""
    kept = task.context.job.checkpoint_uri
    while True:
        await asyncio.sleep(MIRROR_S)
        try:
            if await task.context.in_thread(copy_log):
                await task.context.in_thread(_put_log, task.context)
            await _keep_costs(task, costs)
            kept = await _keep_checkpoint(task, prepared, kept)
        except LeaseLost:
            return
        except Exception as error:  # noqa: BLE001 (storage and database have errors of their own)
            log.warning("stage_not_mirrored", error=repr(error))


async def _keep_costs(task: _Task, costs: Costs) -> None:
    """Also of an attempt that has lost its job: the money is gone all the same."""
    if costs.usd:
        async with transaction(task.context.database, task.context.scope) as session:
            await repository.set_spent(session, task.context.scope, task.work.run_id, dict(costs.usd))


def _put_log(context: JobContext) -> None:
    context.files.put_from_thread(context.log, log_file(context.job, context.ticket))


async def _keep_checkpoint(task: _Task, prepared: PreparedStage, kept: str | None) -> str | None:
    """Stored before it is named, and named before the one before it goes. Raises: LeaseLost."""
    context = task.context
    last = -1 if kept is None else checkpoints.step_of(kept)
    key = await context.in_thread(stage.keep_checkpoint, task.workspace, task.work, prepared, last)
    if key is None:
        return kept
    await context.save_checkpoint(key)
    if kept is not None:
        await context.files.remove([kept])
    return key


# ----------------------------------------------------------------------------------------------------------- its end


async def _outcome(task: _Task, made: StageResult) -> JobOutcome:
    context, work = task.context, task.work
    if work.number < len(STAGES):
        return JobOutcome(made.stored)
    every = [*work.earlier.values(), made]
    return JobOutcome(made.stored, apply=partial(_succeed, context.scope, work.run_id, every))


async def _succeed(scope: TenantScope, run_id: UUID, made: list[StageResult], session: AsyncSession) -> None:
    await service.succeed(session, scope, run_id, made)


async def _ended_badly(session: AsyncSession, job: Job) -> None:
    await service.end_badly(session, TenantScope(job.tenant_id), job)


async def _forget_ended(context: JobContext) -> None:
    """Folders of runs that have ended, and their checkpoints in the storage. A run that failed keeps them for a while:
    somebody may let it go on."""
    present = await context.in_thread(folders.present, context.settings)
    async with transaction(context.database, read_only=True) as session:
        ended = [run for run in await repository.in_states(session, present, ENDED) if not may_go_on(run)]
        kept = await repository.checkpoints(session, [run.id for run in ended])
    await context.files.remove(kept)
    for run in ended:
        await context.in_thread(folders.remove, context.settings, run.id)


def may_go_on(run: Run) -> bool:
    """What lies on this machine of one that has ended may be needed once more."""
    if run.lost_rows_at is not None:
        return False
    failed_at = run.finished_at if run.state is RunState.failed else None
    return failed_at is not None and utc_now() - failed_at < KEPT_FOR_RETRY


for kind in STAGES:
    register(kind, train, _ended_badly)
