"""What the database itself refuses, whoever writes the SQL. Each on both databases."""

from typing import Any

import pytest
from asyncpg.exceptions import RestrictViolationError
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.infra.db.base import Base
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.tables.datasets import ConversationRow, Label
from app.infra.tables.deployments import Deployment, DeploymentState, EditState, ServedEdit
from app.infra.tables.gates import GateResult, GateState
from app.infra.tables.jobs import JobEvent
from app.infra.tables.records import AuditEvent
from evaluation.reporting.report import Verdict
from tests.factories.rows import (
    Story,
    all_that_follows,
    deployment_of,
    gate_of,
    model_of,
    run_of,
    save,
    story,
    version_of,
)
from tests.servers import postgres
from tests.servers.postgres import Place

pytestmark = pytest.mark.anyio


async def told(database: Database, verdict: Verdict | None = Verdict.passed) -> Story:
    rows = story(verdict)
    await stored(database, *rows)
    return rows


async def stored(database: Database, *rows: Base) -> None:
    async with transaction(database) as session:
        await save(session, *rows)


async def refused(database: Database, *rows: Base) -> str:
    with pytest.raises(IntegrityError) as caught:
        await stored(database, *rows)
    return str(caught.value)


async def executed(database: Database, statement: Any) -> None:
    async with transaction(database) as session:
        await session.execute(statement)


async def test_a_passed_gate_can_be_deployed(database: Database) -> None:
    await stored(database, deployment_of(await told(database)))


@pytest.mark.parametrize("verdict", [Verdict.failed, Verdict.incomplete, None])
async def test_a_gate_that_has_not_passed_cannot_be_deployed(
    database: Database, verdict: Verdict | None
) -> None:
    rows = await told(database, verdict)
    await refused(database, deployment_of(rows))
    if verdict is not None:
        assert "ck_deployments_gate_has_passed" in await refused(
            database, deployment_of(rows, verdict=verdict)
        )


async def test_raw_sql_gets_no_deployment_past_a_failed_gate(database: Database) -> None:
    """A deployment that is there cannot be pointed at another pair, and its gate cannot be passed afterwards."""
    good = await told(database)
    bad = await told(database, Verdict.failed)
    await stored(database, deployment := deployment_of(good))
    for change in (
        update(Deployment).values(gate_result_id=bad.gate.id),
        update(Deployment).values(model_version_id=bad.model.id),
        update(Deployment).values(verdict=Verdict.failed),
        update(GateResult).where(GateResult.id == good.gate.id).values(verdict=Verdict.failed),
    ):
        with pytest.raises(IntegrityError):
            await executed(database, change)
    async with transaction(database) as session:
        held = await session.get_one(Deployment, deployment.id)
    assert (held.gate_result_id, held.verdict) == (good.gate.id, Verdict.passed)


async def test_a_gate_on_another_pair_does_not_count(database: Database) -> None:
    rows = await told(database)
    retrained = run_of(rows.version, rows.dataset)
    edited = version_of(rows.schema, 2)
    await stored(database, retrained, other := model_of(retrained), edited)
    await refused(database, deployment_of(rows, model_version_id=other.id))
    await refused(database, deployment_of(rows, schema_version_id=edited.id))


async def test_a_version_is_deployed_for_its_own_schema_only(database: Database) -> None:
    rows, others = await told(database), await told(database)
    await refused(database, deployment_of(rows, schema_id=others.schema.id))


async def test_no_row_refers_to_another_tenants_row(database: Database) -> None:
    rows, others = await told(database), await told(database)
    own = {"tenant_id": rows.tenant.id}
    await refused(database, deployment_of(others, **own))
    run = run_of(others.version, others.dataset)
    run.tenant_id = rows.tenant.id
    await refused(database, run)
    label = Label(conversation_id=others.conversation.id, schema_id=rows.schema.id, source="reviewer", **own)
    await refused(database, label)


async def test_a_schema_has_one_live_deployment(database: Database) -> None:
    rows = await told(database)
    first = deployment_of(rows, state=DeploymentState.live)
    await stored(database, first, deployment_of(rows, state=DeploymentState.retired), deployment_of(rows))
    await refused(database, deployment_of(rows, state=DeploymentState.live, replaces_id=first.id))
    await executed(
        database, update(Deployment).where(Deployment.id == first.id).values(state=DeploymentState.retired)
    )
    await stored(database, deployment_of(rows, state=DeploymentState.live, replaces_id=first.id))


async def test_a_schema_has_one_edit_in_the_balance(database: Database) -> None:
    rows = await told(database)
    await stored(database, deployment := deployment_of(rows))

    def edit(state: EditState) -> ServedEdit:
        return ServedEdit(
            tenant_id=rows.tenant.id,
            schema_id=rows.schema.id,
            deployment_id=deployment.id,
            schema_version_id=rows.version.id,
            state=state,
        )

    await stored(database, edit(EditState.confirmed), edit(EditState.reverted), edit(EditState.provisional))
    await refused(database, edit(EditState.waiting))


@pytest.mark.parametrize("verdict", [Verdict.passed, Verdict.failed])
async def test_passed_and_failed_are_final_for_a_pair_and_a_policy(
    database: Database, verdict: Verdict
) -> None:
    rows = await told(database, verdict)
    await refused(database, gate_of(rows.model, rows.version, Verdict.passed))
    incomplete = gate_of(rows.model, rows.version, Verdict.incomplete)
    another_policy = gate_of(rows.model, rows.version, Verdict.passed)
    another_policy.policy_sha256 = "1" * 64
    await stored(database, incomplete, another_policy, gate_of(rows.model, rows.version, None))


async def test_an_incomplete_gate_may_be_repeated(database: Database) -> None:
    rows = await told(database, Verdict.incomplete)
    await stored(database, gate_of(rows.model, rows.version, Verdict.incomplete))
    await stored(database, gate_of(rows.model, rows.version, Verdict.passed))


async def test_a_gate_is_done_when_it_has_a_verdict_and_not_before(database: Database) -> None:
    rows = await told(database)
    early = gate_of(rows.model, rows.version, Verdict.incomplete)
    early.state = GateState.running
    assert "done_has_a_verdict" in await refused(database, early)
    late = gate_of(rows.model, rows.version, None)
    late.state = GateState.done
    assert "done_has_a_verdict" in await refused(database, late)


async def test_a_conversation_takes_its_labels_with_it(database: Database) -> None:
    rows = await told(database)
    async with transaction(database, rows.scope) as session:
        await session.delete(await session.get_one(ConversationRow, rows.conversation.id))
    async with transaction(database) as session:
        assert await session.scalar(select(func.count()).select_from(Label)) == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_events SET tenant_id = tenant_id",
        "DELETE FROM audit_events",
        "UPDATE job_events SET tenant_id = tenant_id",
    ],
)
async def test_what_was_done_stays_done(database: Database, change: str) -> None:
    """What a job told goes with its job, and does not change."""
    rows = await told(database)
    await stored(database, *all_that_follows(rows))
    with pytest.raises(DBAPIError):
        await executed(database, text(change))
    async with transaction(database) as session:
        for model in (AuditEvent, JobEvent):
            assert await session.scalar(select(func.count()).select_from(model)) == 1


async def test_an_event_is_not_written_over(sqlite: Database) -> None:
    """SQLite's `INSERT OR REPLACE` removes the old row without a DELETE. PostgreSQL has no such statement."""
    await stored(sqlite, AuditEvent(action="tenant.create", subject="tenant:1"))
    over = "INSERT OR REPLACE INTO audit_events SELECT * FROM audit_events"
    with pytest.raises(DBAPIError, match="append-only"):
        await executed(sqlite, text(over))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_events SET at = now()",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events CASCADE",
        "UPDATE job_events SET at = now()",
        "TRUNCATE job_events CASCADE",
    ],
)
async def test_not_even_the_owner_of_the_tables_changes_what_was_done(
    postgresql: Database, place: Place, change: str
) -> None:
    await stored(postgresql, *all_that_follows(await told(postgresql)))
    platform = "SELECT set_config('app.platform', 'on', false)"
    with pytest.raises(RestrictViolationError, match="append-only"):
        await postgres.sql(place.owner_url, platform, change)
