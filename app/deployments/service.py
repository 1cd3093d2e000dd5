"""Decisions about deployments: which pair may answer users, which one does, and going back."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service as audit
from app.audit.service import Act
from app.deployments import editing, repository
from app.deployments.editing import ServedVersion
from app.deployments.repository import OPEN, FoundDeployment, ServedPair
from app.errors import Conflict, ShareExceeded, existing
from app.gates import service as gates
from app.gates.confidence import NOT_FITTED, Fitted
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.infra.tables.deployments import Deployment, DeploymentState
from app.infra.tables.gates import GateResult
from app.infra.tables.jobs import Job, JobKind
from app.infra.tables.runs import ModelVersion
from app.infra.tables.schemas import SchemaVersion
from app.jobs import service as jobs
from app.schemas import repository as schema_repository
from app.schemas import service as schemas
from app.tenants import repository as tenant_repository
from evaluation.contract.mode import Mode
from evaluation.reporting.report import Verdict

OVERTAKEN = "a deployment that was asked for later went live first"


class GateNotPassed(Conflict):
    """Only a pair of model and schema version whose gate has passed is deployed; `problems` says why it has not."""

    code = "gate_not_passed"


class NothingBefore(Conflict):
    """The deployment replaced none, so there is nothing to go back to."""

    code = "nothing_before"


class Live(NamedTuple):
    """adapter: the name under which vLLM knows the model. version: the one to answer with.

    mode: in which it answers unless another is asked for. calibrations: of each mode in which it may, found by the gate
    on model, version and mode.
    """

    deployment_id: UUID
    schema_id: UUID
    model: ModelVersion
    adapter: str
    version: SchemaVersion
    provisional: bool
    mode: Mode
    calibrations: Mapping[Mode, Fitted]

    @property
    def model_version_id(self) -> UUID:
        return self.model.id


class State(NamedTuple):
    """Of a schema: what serves it, and with which version."""

    serving: ServedPair
    served: ServedVersion
    gate: GateResult | None  # of the newest edit


async def live(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> Live | None:
    """What answers for the schema now; None where nothing is deployed."""
    serving = await repository.serving(session, scope, schema_id)
    if serving is None:
        return None
    served = await editing.served(session, scope, serving)
    model = serving.model
    gate = None if served.gate_id is None else await gates.result(session, scope, served.gate_id)
    own = NOT_FITTED if gate is None else gates.calibration(gate)
    passed = await gates.passed(session, scope, model.id, served.version.id)
    return Live(
        serving.row.id,
        schema_id,
        model,
        model.adapter_sha256,
        served.version,
        served.provisional,
        serving.mode,
        passed | {serving.mode: own},
    )


async def before(session: AsyncSession, scope: TenantScope, deployment_id: UUID) -> Live | None:
    """What was live before this deployment's model, as it was deployed: under the version of its own gate."""
    found = await repository.before(session, scope, deployment_id)
    if found is None:
        return None
    row, model, version, mode, _ = found
    own = gates.calibration(await gates.result(session, scope, row.gate_result_id))
    passed = await gates.passed(session, scope, model.id, version.id)
    fitted = passed | {mode: own}
    return Live(row.id, row.schema_id, model, model.adapter_sha256, version, False, mode, fitted)


async def state(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> State | None:
    """None where nothing is deployed. Raises: NotFound, for the schema."""
    await schemas.get(session, scope, schema_id)
    serving = await repository.serving(session, scope, schema_id)
    if serving is None:
        return None
    served = await editing.served(session, scope, serving)
    gate_id = None if served.edit is None else served.edit.row.gate_result_id
    gate = None if gate_id is None else await gates.result(session, scope, gate_id)
    return State(serving, served, gate)


async def get(session: AsyncSession, scope: TenantScope, deployment_id: UUID) -> FoundDeployment:
    """Raises: NotFound."""
    return existing(await repository.found(session, scope, deployment_id), "deployment")


async def job_of(session: AsyncSession, scope: TenantScope, deployment_id: UUID) -> Job | None:
    return await jobs.newest_of(session, scope, JobKind.deploy, deployment_id)


async def create(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID | None, gate_id: UUID, most_models: int
) -> Deployment:
    """Of the pair that the gate has passed; one that is on its way already is returned.

    most_models: that the tenant may have on the model servers; what it replaces does not count.

    Raises: GateNotPassed, NotFound, ShareExceeded.
    """
    gate = await gates.result(session, scope, gate_id)
    if gate.verdict is not Verdict.passed:
        how = gate.state.value if gate.verdict is None else gate.verdict.value
        raise GateNotPassed(f"the gate is {how}, so its model must not answer users", gate.reasons)
    version = await schema_repository.version_by_id(session, scope, gate.schema_version_id)
    assert version is not None  # a foreign key
    await schemas.get(
        session, scope, version.schema_id, lock=True
    )  # of two equal requests the second finds the first
    under_way = await repository.open_of_gate(session, scope, gate.id)
    if under_way is not None:
        return under_way
    await _check_share(session, scope, version.schema_id, gate.model_version_id, most_models)
    row = Deployment(
        tenant_id=scope.tenant_id,
        schema_id=version.schema_id,
        gate_result_id=gate.id,
        model_version_id=gate.model_version_id,
        schema_version_id=gate.schema_version_id,
        verdict=Verdict.passed,
        state=DeploymentState.pending,
        created_by=actor_key_id,
    )
    session.add(row)
    await session.flush()
    await jobs.enqueue(session, scope, JobKind.deploy, row.id)
    _record(session, actor_key_id, row, "deployment.requested")
    return row


async def roll_back(
    session: AsyncSession, scope: TenantScope, actor_key_id: UUID, deployment_id: UUID, most_models: int
) -> Deployment:
    """A new deployment of what answered before this one, with the edit that was served then, if one was.

    Raises: NothingBefore, NotFound, ShareExceeded.
    """
    row = (await get(session, scope, deployment_id)).row
    if row.replaces_id is None:
        raise NothingBefore("the deployment replaced none")
    before = (await get(session, scope, row.replaces_id)).row
    gate_id = await editing.last_gate(session, scope, before)
    return await create(session, scope, actor_key_id, gate_id, most_models)


async def _check_share(
    session: AsyncSession, scope: TenantScope, schema_id: UUID, model_id: UUID, most_models: int
) -> None:
    """Raises: ShareExceeded."""
    await tenant_repository.lock(session, scope)
    replaced = await repository.live(session, scope, schema_id)
    held = await repository.models_held(session, scope)
    held -= set() if replaced is None else {replaced.model_version_id}
    if len(held | {model_id}) > most_models:
        raise ShareExceeded(
            f"the tenant has {most_models} models on the model servers or on their way there, and more are not taken; "
            "deploy in the place of one of them",
            retry_after_s=60,
        )


# -------------------------------------------------------------------------------------------------------- for the job


async def begin(session: AsyncSession, scope: TenantScope, deployment_id: UUID) -> Deployment:
    row = await repository.get(session, scope, deployment_id, lock=True)
    assert row is not None  # no run is deleted while a deployment of its model is open
    if row.state in OPEN:
        row.state = DeploymentState.loading
    return row


async def activate(session: AsyncSession, scope: TenantScope, deployment_id: UUID) -> None:
    """Put it in the place of the one that is live, at once and together with what that means for edits."""
    row = (await get(session, scope, deployment_id)).row
    await schemas.get(session, scope, row.schema_id, lock=True)  # one activation of a schema after the other
    row = await repository.get(session, scope, deployment_id, lock=True) or row
    if row.state not in OPEN:
        return
    before = await repository.live(session, scope, row.schema_id)
    if before is not None and before.created_at > row.created_at:
        row.state, row.problem = DeploymentState.failed, OVERTAKEN
        return
    if before is not None:
        before.state, before.retired_at = DeploymentState.retired, utc_now()
        await session.flush()  # the index allows one, in between too
        row.replaces_id = before.id
    await editing.close(session, scope, row.schema_id)
    row.state, row.activated_at = DeploymentState.live, utc_now()
    await session.flush()
    _record(session, None, row, "deployment.live")


async def note_problem(
    session: AsyncSession, scope: TenantScope, deployment_id: UUID, problem: str | None
) -> None:
    """Why nothing answers for what is live, or that it does again; None for the latter."""
    row = await repository.get(session, scope, deployment_id, lock=True)
    if row is None or row.state is not DeploymentState.live or row.problem == problem:
        return
    row.problem = problem
    await session.flush()
    _record(session, None, row, "deployment.served_again" if problem is None else "deployment.not_served")


async def give_up(session: AsyncSession, job: Job) -> None:
    """It never became live: what is live stays so."""
    scope = TenantScope(job.tenant_id)
    row = await repository.get(session, scope, job.subject_id, lock=True)
    if row is None or row.state not in OPEN:
        return
    row.state = DeploymentState.failed
    row.problem = (job.error or {}).get("message") or "it was cancelled"
    await session.flush()
    _record(session, None, row, "deployment.failed")


def _record(session: AsyncSession, actor_key_id: UUID | None, row: Deployment, action: str) -> None:
    detail = {
        "schema_id": str(row.schema_id),
        "model_version_id": str(row.model_version_id),
        "schema_version_id": str(row.schema_version_id),
        "gate_id": str(row.gate_result_id),
    }
    audit.record(session, actor_key_id, row.tenant_id, Act(action, f"deployment:{row.id}", detail))
