"""Decisions about gates: whether one must be measured, and what its verdict means for the pair."""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service as audit
from app.audit.service import Act
from app.errors import Conflict, NotFound, existing
from app.gates import repository
from app.gates.confidence import NOT_FITTED, Fitted
from app.gates.repository import FINAL, OPEN, FoundGate
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.infra.tables.gates import GateResult, GateState
from app.infra.tables.jobs import Job, JobKind
from app.infra.tables.runs import ModelVersion
from app.infra.tables.schemas import SchemaVersion
from app.jobs import service as jobs
from app.schemas import repository as schema_repository
from app.schemas import service as schemas
from app.settings import Settings
from app.tenants import service as tenants
from app.tenants import share
from evaluation.contract.mode import Mode
from evaluation.gating.label_free import LabelFree
from evaluation.gating.policy import load_policy
from evaluation.reporting.report import Verdict

_ATTEMPTS = 5  # a model server that dies under an evaluation costs one


class GateNotMeasured(Conflict):
    """The gate has no report: it is not done yet, or there was nothing to measure."""

    code = "not_measured"


class GateDecision(NamedTuple):
    """report_key: of the JSON in the storage. It and calibration are None where nothing could be measured.

    label_free: what was measured without labels, where they are what an incomplete gate lacks.
    """

    verdict: Verdict
    reasons: list[str]
    policy_sha256: str
    report_key: str | None
    calibration: Fitted | None = None
    label_free: LabelFree | None = None


async def request(
    session: AsyncSession,
    scope: TenantScope,
    actor_key_id: UUID | None,
    model_version_id: UUID,
    schema_version_id: UUID,
    mode: Mode | None = None,
    settings: Settings | None = None,
) -> GateResult:
    """A verdict that is final, or a gate that is under way, is returned; otherwise a new one is queued.

    mode: None: the tenant's. Where that is auto, both modes get a gate, and that of reasoned is returned.
    settings: where a tenant asks, and not we, so that its share is looked at.

    Raises: NotFound, ShareExceeded.
    """
    model = await _model(session, scope, model_version_id, lock=True)
    version = await _version(session, scope, schema_version_id)
    await _check_schema(session, scope, model, version)
    modes = (await tenants.get(session, scope)).mode.modes if mode is None else (mode,)
    return [await _request(session, scope, actor_key_id, model, version, one, settings) for one in modes][-1]


async def _request(
    session: AsyncSession,
    scope: TenantScope,
    actor_key_id: UUID | None,
    model: ModelVersion,
    version: SchemaVersion,
    mode: Mode,
    settings: Settings | None,
) -> GateResult:
    policy_sha256 = load_policy().sha256
    for earlier in await repository.of_pair(session, scope, model.id, version.id):
        if earlier.mode is mode and (earlier.state in OPEN or is_final(earlier, policy_sha256)):
            return earlier
    if settings is not None:
        await share.check_open(session, scope, share.gates(settings))
        await share.check_gpu(session, scope, settings)
    row = GateResult(
        tenant_id=scope.tenant_id,
        model_version_id=model.id,
        schema_version_id=version.id,
        policy_sha256=policy_sha256,
        mode=mode,
        state=GateState.queued,
        reasons=[],
    )
    session.add(row)
    await session.flush()
    priority = await jobs.priority_of_run(session, scope, model.run_id)
    await jobs.enqueue(session, scope, JobKind.gate, row.id, max_attempts=_ATTEMPTS, priority=priority)
    detail = {"model_version_id": str(model.id), "schema_version_id": str(version.id)}
    detail |= {"mode": mode.value}
    audit.record(session, actor_key_id, scope.tenant_id, Act("gate.requested", f"gate:{row.id}", detail))
    return row


async def request_by_number(
    session: AsyncSession,
    scope: TenantScope,
    actor_key_id: UUID,
    model_version_id: UUID,
    number: int | None,
    mode: Mode | None,
    settings: Settings,
) -> GateResult:
    """number: of a version of the model's schema; None: the one that it was trained for. mode: None: the tenant's.

    Raises: NotFound, ShareExceeded.
    """
    model = await _model(session, scope, model_version_id)
    version = await _version(session, scope, model.schema_version_id)
    if number is not None:
        version = await schemas.version(session, scope, version.schema_id, number)
    return await request(session, scope, actor_key_id, model.id, version.id, mode, settings)


def is_final(row: GateResult, policy_sha256: str) -> bool:
    return row.verdict in FINAL and row.policy_sha256 == policy_sha256


async def result(session: AsyncSession, scope: TenantScope, gate_id: UUID) -> GateResult:
    """Raises: NotFound."""
    return existing(await repository.get(session, scope, gate_id), "gate")


async def found(session: AsyncSession, scope: TenantScope, gate_id: UUID) -> FoundGate:
    """Raises: NotFound."""
    return existing(await repository.found(session, scope, gate_id), "gate")


def calibration(row: GateResult) -> Fitted:
    """For answers of its pair in its mode."""
    return NOT_FITTED if row.calibration is None else Fitted.model_validate(row.calibration)


async def passed(
    session: AsyncSession, scope: TenantScope, model_version_id: UUID, schema_version_id: UUID
) -> dict[Mode, Fitted]:
    """The modes whose newest final verdict on the pair is that it passed."""
    rows = await repository.of_pair(session, scope, model_version_id, schema_version_id)
    newest = {row.mode: row for row in reversed(rows) if row.verdict in FINAL}
    return {mode: calibration(row) for mode, row in newest.items() if row.verdict is Verdict.passed}


async def newest_of_pair(
    session: AsyncSession, scope: TenantScope, model_version_id: UUID, schema_version_id: UUID, mode: Mode
) -> GateResult | None:
    """The newest with a final verdict; where there is none, the newest."""
    found = await repository.of_pair(session, scope, model_version_id, schema_version_id)
    rows = [row for row in found if row.mode is mode]
    return next((row for row in rows if row.verdict in FINAL), rows[0] if rows else None)


async def job_of(session: AsyncSession, scope: TenantScope, gate_id: UUID) -> Job | None:
    return await jobs.newest_of(session, scope, JobKind.gate, gate_id)


async def report_key(session: AsyncSession, scope: TenantScope, gate_id: UUID) -> str:
    """Raises: NotFound, NotMeasured."""
    row = await result(session, scope, gate_id)
    if row.report_key is None:
        why = "; ".join(row.reasons) if row.state not in OPEN else f"it is {row.state.value}"
        if row.verdict in FINAL:  # which nobody has found without one
            why = "it is no longer kept"
        raise GateNotMeasured(f"the gate has no report: {why}")
    return row.report_key


def page_key(key: str) -> str:
    """Of the page that shows the report stored under `key`."""
    return key.removesuffix(".json") + ".html"


# -------------------------------------------------------------------------------------------------------- for the job


async def begin(session: AsyncSession, scope: TenantScope, gate_id: UUID) -> GateResult:
    """The verdict will be under the policy that is in force now, whichever was when it was asked for."""
    row = await repository.get(session, scope, gate_id, lock=True)
    assert row is not None  # no run is deleted while a gate on its model is open
    row.state, row.policy_sha256 = GateState.running, load_policy().sha256
    return row


async def decide(session: AsyncSession, scope: TenantScope, gate_id: UUID, decision: GateDecision) -> None:
    row = await repository.get(session, scope, gate_id, lock=True)
    assert row is not None
    row.state, row.finished_at = GateState.done, utc_now()
    row.verdict, row.reasons = decision.verdict, decision.reasons
    row.policy_sha256, row.report_key = decision.policy_sha256, decision.report_key
    row.calibration = None if decision.calibration is None else decision.calibration.model_dump(mode="json")
    row.label_free = None if decision.label_free is None else decision.label_free.model_dump(mode="json")
    await session.flush()
    detail = {"verdict": decision.verdict.value, "policy_sha256": decision.policy_sha256}
    audit.record(session, None, scope.tenant_id, Act("gate.decided", f"gate:{gate_id}", detail))


async def give_up(session: AsyncSession, job: Job) -> None:
    """It could not be measured, or was cancelled: no verdict, so it may be asked for again."""
    row = await repository.get(session, TenantScope(job.tenant_id), job.subject_id, lock=True)
    if row is None or row.state not in OPEN:
        return
    why = (job.error or {}).get("message") or "it was cancelled"
    row.state, row.finished_at = GateState.failed, utc_now()
    row.reasons = [f"it could not be measured: {why}"]


# --------------------------------------------------------------------------------------------------------------- parts


async def _model(
    session: AsyncSession, scope: TenantScope, model_version_id: UUID, *, lock: bool = False
) -> ModelVersion:
    return existing(await repository.model(session, scope, model_version_id, lock=lock), "model version")


async def _version(session: AsyncSession, scope: TenantScope, version_id: UUID) -> SchemaVersion:
    return existing(await schema_repository.version_by_id(session, scope, version_id), "schema version")


async def _check_schema(
    session: AsyncSession, scope: TenantScope, model: ModelVersion, version: SchemaVersion
) -> None:
    if version.id == model.schema_version_id:
        return
    own = await _version(session, scope, model.schema_version_id)
    if own.schema_id != version.schema_id:
        raise NotFound("the model was trained for another schema, which has no such version")
