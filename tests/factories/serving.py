"""A deployment that is live, without a model server: what follows from it is another matter."""

from uuid import UUID

from app.deployments import service
from app.deployments.service import Live
from app.gates import service as gates
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.gates import GateResult
from evaluation.contract.mode import Mode
from evaluation.reporting.report import Verdict
from tests.factories.trained import Trained, decided


async def passed_gate(database: Database, told: Trained, version_id: UUID | None = None) -> UUID:
    async with transaction(database, told.scope) as session:
        gate = await gates.request(session, told.scope, None, told.model.id, version_id or told.version.id)
    if gate.verdict is None:
        await decided(database, told, gate.id, Verdict.passed)
    return gate.id


async def put_live(database: Database, told: Trained, version_id: UUID | None = None) -> UUID:
    """The pair of the model and its own, or another, version of the schema."""
    gate_id = await passed_gate(database, told, version_id)
    async with transaction(database, told.scope) as session:
        row = await service.create(session, told.scope, None, gate_id, 8)
    await activate(database, told.scope, row.id)
    return row.id


async def activate(database: Database, scope: TenantScope, deployment_id: UUID) -> None:
    async with transaction(database, scope) as session:
        await service.activate(session, scope, deployment_id)


async def live(database: Database, told: Trained) -> Live:
    async with transaction(database, told.scope, read_only=True) as session:
        found = await service.live(session, told.scope, told.schema_id)
    assert found is not None
    return found


async def gate_on(database: Database, told: Trained, version_id: UUID) -> GateResult:
    """Of the model and this version."""
    async with transaction(database, told.scope, read_only=True) as session:
        row = await gates.newest_of_pair(session, told.scope, told.model.id, version_id, Mode.reasoned)
    assert row is not None
    return row
