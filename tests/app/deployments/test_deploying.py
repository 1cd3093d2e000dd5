"""From a passed gate to a live model: on every model server, or not at all."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from app.auth.principal import Scope
from app.deployments import service, tasks
from app.gates import service as gates
from app.infra.db.clock import now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.deployments import Deployment
from app.infra.tables.jobs import JobKind, JobState
from app.jobs import repository as job_repository
from app.jobs.transition import MAX_LOSSES
from app.settings import Settings
from evaluation.reporting.report import Verdict
from tests.callers import Callers
from tests.factories import trained as factory
from tests.factories.trained import Trained, decided, trained
from tests.model_server import Worker
from tests.servers.vllm import FakeVllm, first_code, listening, mute, socket_path

pytestmark = pytest.mark.anyio
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
async def told(database: Database, settings: Settings, scope: TenantScope) -> Trained:
    return await trained(database, settings, scope)


async def gated(database: Database, told: Trained, verdict: Verdict = Verdict.passed) -> UUID:
    async with transaction(database, told.scope) as session:
        gate = await gates.request(session, told.scope, told.key_id, told.model.id, told.version.id)
    await decided(database, told, gate.id, verdict)
    return gate.id


async def ask(client: httpx.AsyncClient, gate_id: UUID) -> httpx.Response:
    return await client.post("/v1/deployments", json={"gate_id": str(gate_id)})


async def deployed(client: httpx.AsyncClient, worker: Worker, scope: TenantScope, gate_id: UUID) -> str:
    made = await ask(client, gate_id)
    assert made.status_code == 202, made.text
    identity: str = made.json()["id"]
    await worker.work(scope, JobKind.deploy, UUID(identity))
    return identity


async def read(client: httpx.AsyncClient, deployment_id: str) -> dict[str, str | None]:
    found: dict[str, str | None] = (await client.get(f"/v1/deployments/{deployment_id}")).json()
    return found


@on_sqlite
async def test_a_deployment_waits_for_a_place_and_not_for_ever(
    client: httpx.AsyncClient,
    database: Database,
    settings: Settings,
    worker: Worker,
    told: Trained,
    vllm: FakeVllm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vllm.adapters = {str(number) * 64: "/elsewhere" for number in range(settings.vllm_max_adapters)}
    identity = (await ask(client, await gated(database, told))).json()["id"]
    job = await worker.work(told.scope, JobKind.deploy, UUID(identity))
    assert job.state is JobState.queued and job.error is not None and job.error["code"] == "serving_full"
    monkeypatch.setattr(tasks, "WAIT_FOR_PLACE", timedelta(0))
    async with transaction(database, told.scope) as session:
        await job_repository.write(session, job, {"available_at": now()})
    job = await worker.work(told.scope, JobKind.deploy, UUID(identity))
    assert job.state is JobState.failed and job.error is not None and job.error["code"] == "no_place_left"
    shown = await read(client, identity)
    assert shown["state"] == "failed" and "STEERWISE_VLLM_MAX_ADAPTERS" in str(shown["problem"])


async def test_a_passed_pair_goes_live_and_is_what_answers(
    client: httpx.AsyncClient, database: Database, worker: Worker, told: Trained, vllm: FakeVllm
) -> None:
    gate_id = await gated(database, told)
    nothing = (await client.get(f"/v1/schemas/{told.schema_id}/serving")).json()
    assert (nothing["deployment"], nothing["schema_version"], nothing["edit"]) == (None, None, None)
    first, second = await ask(client, gate_id), await ask(client, gate_id)
    assert first.json()["id"] == second.json()["id"] and first.json()["state"] == "pending"
    assert (
        await worker.work(told.scope, JobKind.deploy, UUID(first.json()["id"]))
    ).state is JobState.succeeded
    shown = await read(client, first.json()["id"])
    assert (shown["state"], shown["gate_id"], shown["problem"]) == ("live", str(gate_id), None)
    assert shown["activated_at"] is not None and shown["replaces_id"] is None
    assert vllm.asked == [told.model.adapter_sha256]  # the canary
    async with transaction(database, told.scope, read_only=True) as session:
        live = await service.live(session, told.scope, told.schema_id)
    assert live is not None
    assert (live.adapter, live.version.id, live.provisional) == (
        told.model.adapter_sha256, told.version.id, False,
    )  # fmt: skip
    serving = (await client.get(f"/v1/schemas/{told.schema_id}/serving")).json()
    assert (serving["deployment"]["id"], serving["schema_version"]) == (first.json()["id"], 1)


async def test_the_next_deployment_takes_the_place_of_the_first_and_one_call_takes_it_back(
    client: httpx.AsyncClient, database: Database, settings: Settings, worker: Worker, told: Trained
) -> None:
    first = await deployed(client, worker, told.scope, await gated(database, told))
    other = told._replace(model=await factory.retrained(database, settings, told, number=2))
    second = await deployed(client, worker, told.scope, await gated(database, other))
    assert (await read(client, first))["state"] == "retired"
    assert (await read(client, second))["replaces_id"] == first
    answer = await client.post(f"/v1/deployments/{second}/rollback")
    assert answer.status_code == 202, answer.text
    third = answer.json()["id"]
    assert answer.json()["model_version_id"] == str(told.model.id) and third not in (first, second)
    await worker.work(told.scope, JobKind.deploy, UUID(third))
    assert [(await read(client, one))["state"] for one in (first, second, third)] == [
        "retired", "retired", "live",
    ]  # fmt: skip
    listed = (await client.get(f"/v1/deployments?schema_id={told.schema_id}&limit=2")).json()
    assert [one["id"] for one in listed["items"]] == [third, second] and listed["next_cursor"]


@on_sqlite
async def test_there_is_nothing_before_the_first(
    client: httpx.AsyncClient, database: Database, worker: Worker, told: Trained
) -> None:
    first = await deployed(client, worker, told.scope, await gated(database, told))
    answer = await client.post(f"/v1/deployments/{first}/rollback")
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_before")


@pytest.mark.parametrize("verdict", [Verdict.failed, Verdict.incomplete])
async def test_a_gate_that_has_not_passed_is_not_deployed(
    client: httpx.AsyncClient, database: Database, told: Trained, verdict: Verdict
) -> None:
    answer = await ask(client, await gated(database, told, verdict))
    assert (answer.status_code, answer.json()["code"]) == (409, "gate_not_passed")
    assert (await client.get("/v1/deployments")).json()["items"] == []


async def test_a_gate_that_is_still_measured_is_not_deployed(
    client: httpx.AsyncClient, database: Database, told: Trained
) -> None:
    async with transaction(database, told.scope) as session:
        gate = await gates.request(session, told.scope, None, told.model.id, told.version.id)
    assert (await ask(client, gate.id)).json()["code"] == "gate_not_passed"


async def test_no_sql_makes_a_deployment_without_a_passed_gate(database: Database, told: Trained) -> None:
    """Whatever it says about the verdict."""
    gate_id = await gated(database, told, Verdict.failed)
    for verdict in ("passed", "failed"):
        row = {
            "id": uuid4().hex, "tenant": told.scope.tenant_id.hex, "schema": told.schema_id.hex,
            "gate": gate_id.hex, "model": told.model.id.hex, "version": told.version.id.hex, "verdict": verdict,
        }  # fmt: skip
        kind = "CAST(:{0} AS uuid)" if database.engine.dialect.name == "postgresql" else ":{0}"
        ids = ", ".join(kind.format(name) for name in row if name != "verdict")
        statement = text(
            "INSERT INTO deployments (id, tenant_id, schema_id, gate_result_id, model_version_id, schema_version_id,"
            f" verdict, state, created_at) VALUES ({ids}, :verdict, 'live', CURRENT_TIMESTAMP)"
        )
        with pytest.raises(IntegrityError):
            async with transaction(database) as session:
                await session.execute(statement, row)


@on_sqlite
async def test_a_model_that_gives_no_valid_code_does_not_become_live(
    client: httpx.AsyncClient, database: Database, settings: Settings, worker: Worker, told: Trained,
    vllm: FakeVllm,
) -> None:  # fmt: skip
    first = await deployed(client, worker, told.scope, await gated(database, told))
    other = told._replace(model=await factory.retrained(database, settings, told, number=2))
    vllm.models[other.model.adapter_sha256] = mute
    second = await deployed(client, worker, told.scope, await gated(database, other))
    await exhausted(database, worker, told, second)
    shown = await read(client, second)
    assert shown["state"] == "failed" and "no valid code" in (shown["problem"] or "")
    assert (await read(client, first))["state"] == "live"


@on_sqlite
async def test_an_engine_that_dies_under_the_canary_costs_no_attempt_and_is_not_killed_for_ever(
    client: httpx.AsyncClient, database: Database, worker: Worker, told: Trained, vllm: FakeVllm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("app.deployments.tasks.DYING_S", 0.01)
    vllm.killing.add(told.model.adapter_sha256)
    identity = await deployed(client, worker, told.scope, await gated(database, told))
    job = await worker.job(told.scope, JobKind.deploy, UUID(identity))
    assert (job.state, job.attempt, job.losses) == (JobState.queued, 0, 1)
    assert "ended under the canary" in ((await read(client, identity))["problem"] or "")
    for losses in range(2, MAX_LOSSES + 1):
        vllm.status = None
        async with transaction(database) as session:
            await job_repository.write(session, job, {"available_at": now()})
        job = await worker.work(told.scope, JobKind.deploy, UUID(identity))
        assert job.losses == losses
    assert job.state is JobState.failed
    assert (await read(client, identity))["state"] == "failed"


@on_sqlite
async def test_a_model_that_breaks_a_healthy_engine_uses_up_its_attempts(
    client: httpx.AsyncClient, database: Database, worker: Worker, told: Trained, vllm: FakeVllm,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("app.deployments.tasks.DYING_S", 0.01)
    vllm.breaking.add(told.model.adapter_sha256)
    identity = await deployed(client, worker, told.scope, await gated(database, told))
    await exhausted(database, worker, told, identity)
    shown = await read(client, identity)
    assert shown["state"] == "failed" and "refused the canary" in (shown["problem"] or "")


async def exhausted(database: Database, worker: Worker, told: Trained, deployment_id: str) -> None:
    """All the attempts that remain."""
    job = await worker.job(told.scope, JobKind.deploy, UUID(deployment_id))
    while job.state is JobState.queued:
        async with transaction(database) as session:
            await job_repository.write(session, job, {"available_at": now()})
        job = await worker.work(told.scope, JobKind.deploy, UUID(deployment_id))


@pytest.fixture
def second_vllm() -> FakeVllm:
    return FakeVllm({"base": first_code})


@pytest.fixture
def second_url(second_vllm: FakeVllm) -> Iterator[str]:
    with socket_path() as path, listening(second_vllm, path) as url:
        yield url


@on_sqlite
async def test_it_is_live_when_the_last_model_server_has_answered(
    client: httpx.AsyncClient, database: Database, settings: Settings, told: Trained, vllm: FakeVllm,
    second_vllm: FakeVllm, second_url: str,
) -> None:  # fmt: skip
    both = settings.model_copy(update={"vllm_urls": (*settings.vllm_urls, second_url)})
    worker = Worker(database, both)
    second_vllm.status = 503
    identity = await deployed(client, worker, told.scope, await gated(database, told))
    shown = await read(client, identity)
    assert (shown["state"], shown["problem"]) == ("loading", "a model server is overloaded")
    second_vllm.status = None
    await exhausted(database, worker, told, identity)
    assert (await read(client, identity))["state"] == "live"
    assert [list(one.adapters) for one in (vllm, second_vllm)] == [[told.model.adapter_sha256]] * 2
    assert (await read(client, identity))["problem"] is None


@on_sqlite
async def test_an_adapter_that_vllm_refuses_fails_the_deployment(
    client: httpx.AsyncClient, database: Database, worker: Worker, told: Trained, vllm: FakeVllm
) -> None:
    vllm.refusing = "rank too large"
    identity = await deployed(client, worker, told.scope, await gated(database, told))
    await exhausted(database, worker, told, identity)
    shown = await read(client, identity)
    assert shown["state"] == "failed" and "refused the adapter" in (shown["problem"] or "")


async def test_of_two_the_one_asked_for_last_is_live_whichever_is_ready_first(
    client: httpx.AsyncClient, database: Database, settings: Settings, worker: Worker, told: Trained
) -> None:
    early = (await ask(client, await gated(database, told))).json()["id"]
    other = told._replace(model=await factory.retrained(database, settings, told, number=2))
    late = await deployed(client, worker, told.scope, await gated(database, other))
    await worker.work(told.scope, JobKind.deploy, UUID(early))
    assert (await read(client, late))["state"] == "live"
    shown = await read(client, early)
    assert (shown["state"], shown["problem"]) == ("failed", service.OVERTAKEN)


async def test_of_two_activations_at_the_same_moment_both_leave_one_live(
    client: httpx.AsyncClient, database: Database, settings: Settings, told: Trained
) -> None:
    rows = []
    for number in (1, 2):
        model = told.model if number == 1 else await factory.retrained(database, settings, told, number=2)
        answer = await ask(client, await gated(database, told._replace(model=model)))
        rows.append(UUID(answer.json()["id"]))

    async def activate(deployment_id: UUID) -> None:
        async with transaction(database, told.scope) as session:
            await service.activate(session, told.scope, deployment_id)

    await asyncio.gather(*map(activate, rows))
    assert (await read(client, str(rows[1])))["state"] == "live"
    assert (await read(client, str(rows[0])))["state"] in ("retired", "failed")


async def test_nothing_of_another_tenant_is_there(
    client: httpx.AsyncClient, other_client: httpx.AsyncClient, database: Database, told: Trained
) -> None:
    gate_id = await gated(database, told)
    made = (await ask(client, gate_id)).json()["id"]
    assert (await ask(other_client, gate_id)).status_code == 404
    assert (await other_client.get(f"/v1/deployments/{made}")).status_code == 404
    assert (await other_client.post(f"/v1/deployments/{made}/rollback")).status_code == 404
    assert (await other_client.get(f"/v1/schemas/{told.schema_id}/serving")).status_code == 404
    assert (await other_client.get("/v1/deployments")).json()["items"] == []


@on_sqlite
async def test_deploying_needs_a_key_that_may_run(
    callers: Callers, database: Database, told: Trained
) -> None:
    gate_id = await gated(database, told)
    assert (await ask(await callers.of(told.scope, Scope.schemas_write), gate_id)).status_code == 403
    assert (await ask(await callers.of(told.scope, Scope.runs_write), gate_id)).status_code == 202
    async with transaction(database, told.scope, read_only=True) as session:
        row = (await session.scalars(select(Deployment))).one()
    assert row.created_by is not None
