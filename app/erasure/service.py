"""Decisions about what is removed for good: a run with all that it made, a tenant with all that it owns."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service as audit
from app.audit.service import Act
from app.erasure import repository
from app.errors import Conflict, NotFound
from app.infra.db.scope import TenantScope
from app.infra.files import repository as files
from app.infra.tables.files import FileKind
from app.infra.tables.runs import Run
from app.runs import service as runs
from app.runs.kinds import ENDED

_OF_CONTENT = (FileKind.snapshot, FileKind.adapter)  # which several runs may have
_OF_RUN = tuple(kind for kind in FileKind if kind not in _OF_CONTENT)


class RunNotEnded(Conflict):
    """A run that has not ended cannot be removed; cancel it, and wait until it has."""

    code = "run_not_ended"


class RunInUse(Conflict):
    """Its model answers users, or is about to, or a gate is measuring it; `problems` says which."""

    code = "run_in_use"


class DeletedRun(NamedTuple):
    """With what it had made."""

    id: UUID
    model_versions: list[UUID]
    gates: list[UUID]
    deployments: list[UUID]


async def delete_run(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID, run_id: UUID
) -> DeletedRun:
    """Its models, gates and retired deployments go with it, and all files of these.

    Raises: NotFound, RunInUse, RunNotEnded.
    """
    run = await runs.get(session, scope, run_id, lock=True)
    if run.state not in ENDED:
        raise RunNotEnded(f"the run is {run.state.value}; cancel it first")
    made = await repository.made_by(session, scope, run_id)
    await _check_unused(session, scope, made)
    await _let_go(session, scope, run, made)
    await repository.remove_run(session, scope, run, made)
    gone = DeletedRun(
        run_id, [model.id for model in made.models], made.gates, [one.id for one in made.deployments]
    )
    detail = {"dataset_id": str(run.dataset_id), "model_versions": [str(one) for one in gone.model_versions]}
    audit.record(session, actor_key_id, scope.tenant_id, Act("run.deleted", f"run:{run_id}", detail))
    return gone


async def _check_unused(session: AsyncSession, scope: TenantScope, made: repository.MadeByRun) -> None:
    serving = [one for one in made.deployments if one.state in repository.LIVE]
    if serving:
        raise RunInUse(
            f"its model is deployed ({serving[0].id} is {serving[0].state.value}); deploy another in its place first"
        )
    if await repository.open_gates(session, scope, made.gates):
        raise RunInUse("a gate on its model has not ended; wait for it")


async def _let_go(session: AsyncSession, scope: TenantScope, run: Run, made: repository.MadeByRun) -> None:
    await files.let_go_of_runs(session, scope, [run.id], _OF_RUN)
    if not await repository.freezes(session, scope, run.snapshot_key, but_for=run.id):
        await files.let_go_of_keys(session, scope, [run.snapshot_key])
    stages = [stage.get("adapter_key") for model in made.models for stage in model.stages]
    folders = {key for key in (*(model.adapter_key for model in made.models), *stages) if key}
    shared = await repository.shared_adapters(session, scope, made, folders)
    for folder, other in shared.items():
        await repository.give_to_run(session, scope, folder, other)
    await files.let_go_of_runs(session, scope, [run.id], (FileKind.adapter,))


async def delete_tenant(session: AsyncSession, scope: TenantScope, actor_key_id: UUID | None) -> datetime:
    """From now on it is gone for everybody; its rows and files go within minutes. Returns since when.

    Raises: NotFound.
    """
    at = await repository.bury(session, scope)
    if at is None:
        raise NotFound("there is no such tenant")
    await files.let_go_of_all(session, scope)
    audit.record(session, actor_key_id, scope.tenant_id, Act("tenant.deleted", f"tenant:{scope.tenant_id}"))
    return at
