"""Which gate's calibration a live deployment carries, while its schema is edited and deployments follow each other."""

from uuid import UUID

import httpx
import pytest

from app.gates import service as gates
from app.gates.confidence import NOT_FITTED, Fitted
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.tenants import ServeEdits
from app.settings import Settings
from evaluation.contract.mode import Mode
from evaluation.reporting.report import Verdict
from tests.app.deployments.test_editing import edit, judge, sweep, wish
from tests.factories import trained as factory
from tests.factories.serving import activate, live, put_live
from tests.factories.trained import decided, trained

pytestmark = pytest.mark.anyio


async def test_confidences_are_those_of_the_gate_on_the_version_that_is_served(
    database: Database, settings: Settings, scope: TenantScope, client: httpx.AsyncClient
) -> None:
    told = await trained(database, settings, scope)
    own, half, whole = (
        Fitted(method="temperature", temperature=t, n=200, ece=0.02, ece_n=300) for t in (1.5, 2.0, 2.5)
    )
    async with transaction(database, told.scope) as session:
        gate = await gates.request(session, told.scope, None, told.model.id, told.version.id)
    await decided(database, told, gate.id, Verdict.passed, own)
    await put_live(database, told)
    assert (await live(database, told)).calibrations[Mode.reasoned] == own
    await wish(database, told, ServeEdits.at_once)
    version = await edit(database, told)
    for _ in range(2):  # before and after there is a gate
        assert (await live(database, told)).provisional
        assert (await live(database, told)).calibrations[Mode.reasoned] == NOT_FITTED
        await sweep(database, settings)
    await judge(database, settings, told, version, Verdict.incomplete, half)
    assert (await live(database, told)).calibrations[Mode.reasoned] == half
    async with transaction(database, told.scope) as session:
        await gates.request(session, told.scope, None, told.model.id, version.id)
    await judge(database, settings, told, version, Verdict.passed, whole)
    assert (await live(database, told)).calibrations[Mode.reasoned] == whole
    other = told._replace(model=await factory.retrained(database, settings, told, number=2))
    replacing = await put_live(database, other, version.id)
    assert (await live(database, told)).calibrations[Mode.reasoned] == NOT_FITTED
    back = (await client.post(f"/v1/deployments/{replacing}/rollback")).json()
    await activate(database, told.scope, UUID(back["id"]))
    assert (await live(database, told)).calibrations[Mode.reasoned] == whole
