"""What the gate's job keeps so that answers may have true confidences."""

import pytest

from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.tenants import Tenant
from app.settings import Settings
from evaluation.contract.record import Split
from tests.app.gates.test_measuring import measured, on_sqlite, report_of, requested
from tests.evaluation.models import overconfident
from tests.evaluation.shop import conversations
from tests.factories.trained import trained
from tests.model_server import Worker
from tests.servers.vllm import FakeVllm

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@on_sqlite
async def test_what_was_fitted_is_kept_with_the_verdict_and_the_tenants_threshold_is_of_it(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker
) -> None:
    frozen = [
        c.model_copy(update={"split": Split.calibration}) if number % 4 == 1 else c
        for number, c in enumerate(conversations())
    ]
    told = await trained(database, settings, scope, frozen=frozen, max_items=240)
    vllm.models[told.adapters["rl"]] = overconfident()
    async with transaction(database, scope) as session:
        (await session.get_one(Tenant, scope.tenant_id)).abstain_below = 0.9
    gate = await measured(database, worker, told, await requested(database, told))
    stage = report_of(settings, gate).stages[-1]
    assert stage.auxiliary is not None and stage.auxiliary.calibration is not None
    found = stage.auxiliary.calibration
    assert found.temperature > 1.5 and found.ece.after.value is not None
    assert gate.calibration == {
        "method": "temperature",
        "temperature": found.temperature,
        "n": 60,
        "ece": found.ece.after.value,
        "ece_n": found.ece.after.n,
        "auto_threshold": None,  # a gate in mode fast finds it
    }
    assert found.ece.before.value is not None and found.ece.before.value > found.ece.after.value
    sure = [score.confidence for score in stage.sample_scores if score.confidence is not None]
    assert sure and max(sure) < 0.9, "the model itself says 0.98"
    assert {answered.predicted for answered in stage.per_category if answered.category is not None} == {0}
