"""Asking for gates: once for each pair, within the tenant, and by itself for a new model."""

from uuid import UUID

import httpx
import pytest

from app.auth.principal import Scope
from app.gates import repository, tasks
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.gates import GateState
from app.infra.tables.jobs import JobKind, JobState
from app.infra.tables.tenants import Tenant
from app.jobs import service as jobs
from app.jobs.priority import Priority
from app.settings import Settings
from evaluation.contract.mode import Mode, ModeChoice
from evaluation.reporting.report import Verdict
from tests.callers import Callers
from tests.factories import trained as factory
from tests.factories.trained import Trained, decided, trained

pytestmark = pytest.mark.anyio


@pytest.fixture
async def told(database: Database, settings: Settings, scope: TenantScope) -> Trained:
    return await trained(database, settings, scope)


async def ask(
    client: httpx.AsyncClient, told: Trained, version: int | None = None, **headers: str
) -> httpx.Response:
    body = {"model_version_id": str(told.model.id)} | ({} if version is None else {"schema_version": version})
    return await client.post("/v1/gates", json=body, headers=headers)


async def test_a_gate_is_asked_for_once(client: httpx.AsyncClient, told: Trained) -> None:
    first, second = await ask(client, told), await ask(client, told, 1)
    assert (first.status_code, second.status_code) == (202, 202), first.text
    assert first.json()["id"] == second.json()["id"]
    assert first.json()["state"] == "queued" and first.json()["progress"]["state"] == "queued"
    assert (first.json()["schema_id"], first.json()["schema_version"]) == (str(told.schema_id), 1)


async def test_a_final_verdict_is_the_answer(
    client: httpx.AsyncClient, database: Database, told: Trained
) -> None:
    first = (await ask(client, told)).json()
    await decided(database, told, first["id"], Verdict.failed)
    again = await ask(client, told)
    assert (again.status_code, again.json()["id"], again.json()["verdict"]) == (200, first["id"], "failed")


async def test_an_incomplete_gate_is_measured_again(
    client: httpx.AsyncClient, database: Database, told: Trained
) -> None:
    first = (await ask(client, told)).json()
    await decided(database, told, first["id"], Verdict.incomplete)
    again = await ask(client, told)
    assert again.status_code == 202 and again.json()["id"] != first["id"]
    listed = (await client.get(f"/v1/gates?model_version_id={told.model.id}")).json()["items"]
    assert [one["id"] for one in listed] == [again.json()["id"], first["id"]]
    assert (await client.get(f"/v1/gates?model_version_id={told.schema_id}")).json()["items"] == []


async def test_the_list_comes_in_pages(client: httpx.AsyncClient, database: Database, told: Trained) -> None:
    for _ in range(3):
        await decided(database, told, (await ask(client, told)).json()["id"], Verdict.incomplete)
    first = (await client.get("/v1/gates?limit=2")).json()
    second = (await client.get(f"/v1/gates?limit=2&cursor={first['next_cursor']}")).json()
    assert [len(first["items"]), len(second["items"]), second["next_cursor"]] == [2, 1, None]


async def test_another_version_of_the_schema_is_another_pair(
    client: httpx.AsyncClient, database: Database, told: Trained
) -> None:
    await factory.edited(database, told, factory.reworded("The customer wants to be paid back."))
    own, edited = (await ask(client, told)).json(), (await ask(client, told, 2)).json()
    assert (own["schema_version"], edited["schema_version"]) == (1, 2) and own["id"] != edited["id"]
    missing = await ask(client, told, 3)
    assert (missing.status_code, missing.json()["detail"]) == (404, "the schema has no version 3")


async def test_a_request_that_is_sent_again_gets_the_first_answer(
    client: httpx.AsyncClient, database: Database, told: Trained
) -> None:
    first = await ask(client, told, **{"Idempotency-Key": "one"})
    await decided(database, told, first.json()["id"], Verdict.passed)
    again = await ask(client, told, **{"Idempotency-Key": "one"})
    assert again.headers["Idempotency-Replayed"] == "true" and again.json() == first.json()


async def test_a_cancelled_gate_has_no_verdict(
    client: httpx.AsyncClient, database: Database, told: Trained
) -> None:
    gate = (await ask(client, told)).json()
    async with transaction(database, told.scope) as session:
        await jobs.request_cancel(session, told.scope, UUID(gate["progress"]["job_id"]))
    shown = (await client.get(f"/v1/gates/{gate['id']}")).json()
    assert (shown["state"], shown["verdict"]) == ("failed", None)
    assert shown["reasons"] == ["it could not be measured: it was cancelled"]


async def test_nothing_of_another_tenant_is_there(
    client: httpx.AsyncClient, other_client: httpx.AsyncClient, told: Trained
) -> None:
    gate = (await ask(client, told)).json()
    assert (await ask(other_client, told)).status_code == 404
    for path in ("", "/report", "/report.html"):
        assert (await other_client.get(f"/v1/gates/{gate['id']}{path}")).status_code == 404
    assert (await other_client.get("/v1/gates")).json()["items"] == []


async def test_measuring_needs_a_key_that_may_run(callers: Callers, told: Trained) -> None:
    assert (await ask(await callers.of(told.scope, Scope.classify), told)).status_code == 403
    assert (await ask(await callers.of(told.scope, Scope.runs_write), told)).status_code == 202


async def test_a_gate_has_the_priority_of_its_models_run(
    database: Database, settings: Settings, told: Trained
) -> None:
    run_id = told.model.run_id
    async with transaction(database, told.scope) as session:
        await jobs.enqueue(session, told.scope, JobKind.sft, run_id, run_id=run_id, priority=Priority.high)
    await tasks.sweep(database, settings)
    async with transaction(database, told.scope, read_only=True) as session:
        (gate,) = await repository.of_pair(session, told.scope, told.model.id, told.version.id)
        job = await jobs.newest_of(session, told.scope, JobKind.gate, gate.id)
    assert job is not None and job.priority == Priority.high.rank


async def test_a_new_model_gets_its_gate_by_itself_and_one_only(
    database: Database, settings: Settings, told: Trained, other_scope: TenantScope
) -> None:
    theirs = await trained(database, settings, other_scope)
    for _ in range(2):
        await tasks.sweep(database, settings)
    for one in (told, theirs):
        async with transaction(database, one.scope, read_only=True) as session:
            (gate,) = await repository.of_pair(session, one.scope, one.model.id, one.version.id)
            job = await jobs.newest_of(session, one.scope, JobKind.gate, gate.id)
        assert gate.state is GateState.queued and job is not None and job.state is JobState.queued


async def test_each_mode_has_a_gate_of_its_own_and_the_tenants_mode_is_the_default(
    client: httpx.AsyncClient, database: Database, told: Trained
) -> None:
    async def of_mode(**asked: str) -> tuple[str, str]:
        body = {"model_version_id": str(told.model.id), **asked}
        made = (await client.post("/v1/gates", json=body)).json()
        return made["id"], made["mode"]

    reasoned, fast = await of_mode(), await of_mode(mode="fast")
    assert (reasoned[1], fast[1]) == ("reasoned", "fast") and reasoned[0] != fast[0]
    for gate_id, _ in (reasoned, fast):  # both may be final for one pair and policy
        await decided(database, told, gate_id, Verdict.passed)
    assert (await of_mode(), await of_mode(mode="fast")) == (reasoned, fast)
    async with transaction(database, told.scope) as session:
        (await session.get_one(Tenant, told.scope.tenant_id)).mode = Mode.fast
    assert await of_mode() == fast


async def test_where_a_tenant_answers_in_mode_auto_a_new_model_gets_a_gate_in_each_mode(
    database: Database, settings: Settings, client: httpx.AsyncClient, told: Trained
) -> None:
    async with transaction(database, told.scope) as session:
        (await session.get_one(Tenant, told.scope.tenant_id)).mode = ModeChoice.auto
    for _ in range(2):
        await tasks.sweep(database, settings)
    listed = (await client.get(f"/v1/gates?model_version_id={told.model.id}")).json()["items"]
    assert sorted(one["mode"] for one in listed) == ["fast", "reasoned"]
    again = (await ask(client, told)).json()
    assert again["mode"] == "reasoned" and again["id"] in {one["id"] for one in listed}
