"""What is served when a schema is edited under a live model: the edit at once, or once its own gate has passed.

A deployment's own pair never changes. An edit of its schema is a row beside it, decided by the gate on the pair of
the live model and the edited version.
"""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import service as audit
from app.audit.service import Act
from app.deployments import repository
from app.deployments.repository import UNDECIDED, Edited, ServedPair
from app.gates import service as gates
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.infra.tables.deployments import Deployment, DeploymentState, EditState, ServedEdit
from app.infra.tables.schemas import SchemaVersion
from app.infra.tables.tenants import ServeEdits
from app.schemas import service as schemas
from app.tenants import service as tenants
from evaluation.contract.mode import ModeChoice
from evaluation.reporting.report import Verdict


class ServedVersion(NamedTuple):
    """version: the one to answer with. edit: the newest of the live deployment, decided or not.

    gate_id: of the gate on the live model and that version; None before there is one.
    """

    version: SchemaVersion
    provisional: bool
    gate_id: UUID | None
    edit: Edited | None


async def served(session: AsyncSession, scope: TenantScope, serving: ServedPair) -> ServedVersion:
    """Holds from the moment of publishing, and from that of a verdict: where no row tells of an edit yet, the tenant's
    wish decides, and where a row is in the balance, its gate if that has just ended."""
    newest = await repository.newest_edit(session, scope, serving.row)
    edits = await repository.edits_of(session, scope, serving.row.id)
    shown = edits[0] if edits else None
    balance = shown if shown is not None and shown.row.state in UNDECIDED and _is_of(shown, newest) else None
    gate = None
    if balance is not None:
        gate = await gates.newest_of_pair(session, scope, serving.model.id, balance.version.id, serving.mode)
    verdict = None if gate is None else gate.verdict
    if balance is not None and gate is not None and verdict is Verdict.passed:
        return ServedVersion(balance.version, False, gate.id, shown)
    undecided = not _is_of(shown, newest) or (balance is not None and verdict is not Verdict.failed)
    if newest is not None and undecided and await _wish(session, scope) is ServeEdits.at_once:
        gate_id = shown.row.gate_result_id if shown is not None and _is_of(shown, newest) else None
        return ServedVersion(newest, True, gate_id, shown)
    passed = next((one for one in edits if one.row.state is EditState.confirmed), None)
    if passed is None:
        return ServedVersion(serving.version, False, serving.row.gate_result_id, shown)
    return ServedVersion(passed.version, False, passed.row.gate_result_id, shown)


async def last_gate(session: AsyncSession, scope: TenantScope, deployment: Deployment) -> UUID:
    """Of the pair that it served last: its own, or that of the newest edit that passed."""
    for one in await repository.edits_of(session, scope, deployment.id):
        if one.row.state is EditState.confirmed and one.row.gate_result_id is not None:
            return one.row.gate_result_id
    return deployment.gate_result_id


async def begin(session: AsyncSession, scope: TenantScope, deployment_id: UUID) -> None:
    """Ask for the gate of the newest edit, unless that was done meanwhile. An older edit in the balance gives way."""
    deployment = await repository.get(session, scope, deployment_id)
    if deployment is None:
        return
    await schemas.get(session, scope, deployment.schema_id, lock=True)
    newest = await repository.newest_edit(session, scope, deployment)
    edits = await repository.edits_of(session, scope, deployment.id)
    if newest is None or _is_of(edits[0] if edits else None, newest):
        return
    await close(session, scope, deployment.schema_id)
    mode = (await gates.result(session, scope, deployment.gate_result_id)).mode
    gate = await gates.request(session, scope, None, deployment.model_version_id, newest.id, mode)
    if (await tenants.get(session, scope)).mode is ModeChoice.auto:
        await gates.request(session, scope, None, deployment.model_version_id, newest.id)
    row = ServedEdit(
        tenant_id=scope.tenant_id,
        schema_id=deployment.schema_id,
        deployment_id=deployment.id,
        schema_version_id=newest.id,
        gate_result_id=gate.id,
        state=await _undecided_state(session, scope),
    )
    session.add(row)
    await session.flush()
    await _decide(session, scope, row, deployment)


async def decide(session: AsyncSession, scope: TenantScope, edit_id: UUID) -> None:
    """Confirm or revert as the gate says; an incomplete one leaves the edit as it is, and may be repeated."""
    row = await repository.edit(session, scope, edit_id)
    if row is None:
        return
    await schemas.get(session, scope, row.schema_id, lock=True)
    row = await repository.edit(session, scope, edit_id)
    if row is not None and row.state in UNDECIDED:
        deployment = await repository.get(session, scope, row.deployment_id)
        assert deployment is not None  # a foreign key, and nobody removes one
        await _decide(session, scope, row, deployment)


async def close(session: AsyncSession, scope: TenantScope, schema_id: UUID) -> None:
    """Something newer has come: the edit in the balance, if there is one, is not served any more."""
    row = await repository.undecided(session, scope, schema_id)
    if row is not None:
        await _end(session, scope, row, EditState.reverted)


async def _decide(session: AsyncSession, scope: TenantScope, row: ServedEdit, deployment: Deployment) -> None:
    if deployment.state is not DeploymentState.live:
        await _end(session, scope, row, EditState.reverted)
        return
    mode = (await gates.result(session, scope, deployment.gate_result_id)).mode
    gate = await gates.newest_of_pair(
        session, scope, deployment.model_version_id, row.schema_version_id, mode
    )
    row.gate_result_id = None if gate is None else gate.id
    match None if gate is None else gate.verdict:
        case Verdict.passed:
            await _end(session, scope, row, EditState.confirmed)
        case Verdict.failed:
            await _end(session, scope, row, EditState.reverted)
        case _:
            row.state = await _undecided_state(session, scope)


async def _end(session: AsyncSession, scope: TenantScope, row: ServedEdit, state: EditState) -> None:
    row.state, row.decided_at = state, utc_now()
    await session.flush()
    detail = {"schema_version_id": str(row.schema_version_id), "deployment_id": str(row.deployment_id)}
    audit.record(
        session, None, scope.tenant_id, Act(f"schema_edit.{state.value}", f"schema:{row.schema_id}", detail)
    )


def _is_of(edit: Edited | None, version: SchemaVersion | None) -> bool:
    return edit is not None and version is not None and edit.version.id == version.id


async def _undecided_state(session: AsyncSession, scope: TenantScope) -> EditState:
    at_once = await _wish(session, scope) is ServeEdits.at_once
    return EditState.provisional if at_once else EditState.waiting


async def _wish(session: AsyncSession, scope: TenantScope) -> ServeEdits:
    return (await tenants.get(session, scope)).serve_edits
