"""The gate's job: what it asks of the serving vLLM, and what becomes of the verdict."""

import hashlib
import json
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import httpx
import pytest

from app.gates import service
from app.infra.db.clock import now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.storage import open_storage
from app.infra.tables.datasets import ConversationRow, Label, LabelSource
from app.infra.tables.gates import GateResult, GateState
from app.infra.tables.jobs import JobKind, JobState
from app.infra.tables.tenants import Tenant
from app.jobs import repository as job_repository
from app.jobs import service as jobs
from app.jobs.transition import MAX_LOSSES
from app.settings import Settings
from evaluation.contract.mode import Mode
from evaluation.contract.record import Conversation, Split
from evaluation.reporting.report import Report, Verdict
from tests.evaluation.fake_server import Asked, Reply
from tests.evaluation.models import habit, oracle
from tests.evaluation.shop import SCHEMA, conversations
from tests.factories import trained as factory
from tests.factories.rows import save
from tests.factories.serving import put_live
from tests.factories.trained import Trained, retrained, trained
from tests.model_server import Worker
from tests.servers.vllm import FakeVllm

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


async def requested(database: Database, told: Trained, version_id: UUID | None = None) -> GateResult:
    async with transaction(database, told.scope) as session:
        return await service.request(
            session, told.scope, told.key_id, told.model.id, version_id or told.version.id
        )


async def read(database: Database, told: Trained, gate: GateResult) -> GateResult:
    async with transaction(database, told.scope, read_only=True) as session:
        return await service.result(session, told.scope, gate.id)


async def measured(database: Database, worker: Worker, told: Trained, gate: GateResult) -> GateResult:
    job = await worker.work(told.scope, JobKind.gate, gate.id)
    assert job.state is JobState.succeeded, job.error
    return await read(database, told, gate)


def report_of(settings: Settings, gate: GateResult) -> Report:
    assert gate.report_key is not None
    with open_storage(settings.storage_url).open_read(gate.report_key) as file:
        return Report.model_validate_json(file.read())


@on_sqlite
async def test_a_model_that_follows_definitions_passes_and_every_stage_is_in_the_report(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker,
    client: httpx.AsyncClient,
) -> None:  # fmt: skip
    told = await trained(database, settings, scope, stages=("sft", "rl"), max_items=600)
    vllm.models |= {told.adapters["sft"]: habit(), told.adapters["rl"]: oracle()}
    gate = await measured(database, worker, told, await requested(database, told))
    assert (gate.state, gate.verdict) == (GateState.done, Verdict.passed), gate.reasons
    assert vllm.salts == {scope.cache_salt}  # the tenant's words are read from no cache of another's
    made = report_of(settings, gate)
    assert [stage.stage for stage in made.stages] == ["base", "sft", "rl"]
    assert made.stages[-1].model == told.adapters["rl"][:12]
    assert made.baselines["tfidf_accuracy"].value is not None
    assert made.baselines["embeddings_accuracy"].value is not None
    assert made.gate is not None and made.gate.policy_sha256 == gate.policy_sha256
    shown = (await client.get(f"/v1/gates/{gate.id}")).json()
    assert (shown["verdict"], shown["schema_version"]) == ("passed", 1)
    progress = shown["progress"]
    of_the_suite = sum(stage.items for stage in made.stages)
    assert progress["done"] == progress["total"] > of_the_suite  # with what is asked beside it
    assert progress["state"] == "succeeded"
    assert Report.model_validate((await client.get(f"/v1/gates/{gate.id}/report")).json()) == made
    page = await client.get(f"/v1/gates/{gate.id}/report.html")
    assert "Passed" in page.text and "default-src 'none'" in page.headers["content-security-policy"]


@on_sqlite
async def test_the_model_that_answers_the_tenant_now_is_asked_the_same_questions(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker
) -> None:
    told = await trained(database, settings, scope, max_items=600)
    await put_live(database, told)
    newer = told._replace(model=await retrained(database, settings, told, number=2, max_items=600))
    vllm.models |= {told.adapters["rl"]: oracle(), newer.adapters["rl"]: habit()}
    gate = await measured(database, worker, newer, await requested(database, newer))
    made = report_of(settings, gate)
    assert [stage.stage for stage in made.stages] == ["base", "live", "rl"]
    assert made.stages[1].model == told.adapters["rl"][:12]
    assert gate.verdict is Verdict.failed
    assert any("compared with what is live" in reason for reason in gate.reasons)


@on_sqlite
async def test_a_gate_asks_in_its_mode(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker
) -> None:
    told = await trained(database, settings, scope, max_items=600)
    vllm.models[told.adapters["rl"]] = oracle()
    async with transaction(database, told.scope) as session:
        asked = await service.request(
            session, told.scope, told.key_id, told.model.id, told.version.id, Mode.fast
        )
    gate = await measured(database, worker, told, asked)
    assert (gate.verdict, gate.mode) == (Verdict.passed, Mode.fast), gate.reasons
    made = report_of(settings, gate)
    assert made.mode is Mode.fast
    assert made.stages[-1].completion_tokens.value == 1


@on_sqlite
async def test_a_model_that_ignores_definitions_fails_for_good(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker
) -> None:
    told = await trained(database, settings, scope, max_items=600)
    vllm.models[told.adapters["rl"]] = habit()
    gate = await measured(database, worker, told, await requested(database, told))
    assert gate.verdict is Verdict.failed and any("steerability" in reason for reason in gate.reasons)
    assert (await requested(database, told)).id == gate.id


@on_sqlite
async def test_too_few_questions_decide_nothing_and_may_be_asked_again(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker
) -> None:
    told = await trained(database, settings, scope)
    vllm.models[told.adapters["rl"]] = oracle()
    gate = await measured(database, worker, told, await requested(database, told))
    assert gate.verdict is Verdict.incomplete and gate.report_key is not None
    assert gate.calibration["method"] == "none" and gate.calibration["n"] < 20, "too few are left to fit"
    again = await requested(database, told)
    assert again.id != gate.id and again.state is GateState.queued


@on_sqlite
async def test_an_edit_is_measured_on_the_last_stage_with_the_labels_that_it_still_has(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker
) -> None:
    told = await trained(database, settings, scope, stages=("sft", "rl"))
    vllm.models[told.adapters["rl"]] = oracle()
    fewer = SCHEMA.model_copy(update={"categories": SCHEMA.categories[:-1]})
    version = await factory.edited(database, told, fewer)
    gate = await measured(database, worker, told, await requested(database, told, version.id))
    made = report_of(settings, gate)
    assert [stage.stage for stage in made.stages] == ["base", "rl"]  # the policy compares with the base
    assert made.schema_sha256 == version.sha256 and made.baselines == {}
    assert "another schema version" in made.not_measured[0]
    assert list(vllm.adapters) == [told.adapters["rl"]]
    gone = sum(c.category == "size" and c.split is Split.test for c in conversations())
    said = f"{gone} held-out conversations were left out: this schema version no longer has their category"
    assert gate.verdict is Verdict.incomplete and gate.reasons[-1] == said
    assert made.gate is not None and made.gate.reasons == gate.reasons


@on_sqlite
async def test_where_no_label_is_left_the_gate_measures_what_needs_none_and_says_which_it_wants(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker,
    client: httpx.AsyncClient,
) -> None:  # fmt: skip
    told = await trained(database, settings, scope, max_items=600)
    vllm.models[told.adapters["rl"]] = oracle()
    renamed = [c.model_copy(update={"key": f"new-{c.key}"}) for c in SCHEMA.categories]
    other = SCHEMA.model_copy(update={"categories": tuple(renamed), "none_of_these": False})
    version = await factory.edited(database, told, other)
    gate = await measured(database, worker, told, await requested(database, told, version.id))
    assert gate.verdict is Verdict.incomplete and gate.report_key is None and gate.calibration is None
    assert "no held-out conversation" in gate.reasons[0] and "left out" in gate.reasons[1]
    assert gate.reasons[2] == "50 more held-out conversations need a label, of which there are 0"
    answer = await client.get(f"/v1/gates/{gate.id}/report")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_measured")
    found = (await client.get(f"/v1/gates/{gate.id}")).json()["label_free"]
    assert (found["labelled"], found["missing"]) == (0, 50)
    # What fits none of the shop's categories it has to guess here, and guesses follow nothing.
    assert found["follows"]["value"] > 0.6 and found["stays"]["shuffle"]["value"] > 0.7
    held_out = {c.id for c in conversations() if c.split is Split.test}
    named = [one["conversation_id"] for one in found["label_first"]]
    assert len(named) == 50 and set(named) <= held_out


@on_sqlite
async def test_a_gate_grows_with_the_labels_that_its_dataset_has_by_now(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker,
    client: httpx.AsyncClient,
) -> None:  # fmt: skip
    test = [c for c in conversations() if c.split is Split.test]
    few = [c for c in conversations() if c.split is not Split.test] + test[:30]
    told = await trained(database, settings, scope, max_items=240, frozen=few)
    vllm.models[told.adapters["rl"]] = oracle()
    async with transaction(database, scope) as session:
        await save(session, *(row_of(told, c) for c in test[30:60]))
    first = await measured(database, worker, told, await requested(database, told))
    shown = (await client.get(f"/v1/gates/{first.id}")).json()
    assert shown["label_free"]["labelled"] == 30 and shown["label_free"]["missing"] >= 20
    named = [one["conversation_id"] for one in shown["label_free"]["label_first"]]
    assert set(named) <= {c.id for c in test[30:60]}
    async with transaction(database, scope) as session:
        await save(session, *(label_of(told, c) for c in test[30:60]))
    again = await measured(database, worker, told, await requested(database, told))
    assert report_of(settings, again).stages[-1].accuracy.n == 60
    assert (await client.get(f"/v1/gates/{again.id}")).json()["label_free"] is None


def row_of(told: Trained, conversation: Conversation) -> ConversationRow:
    """Of the dataset of the model's run, where it came after the run."""
    return ConversationRow(
        id=uuid5(NAMESPACE_OID, conversation.id),
        tenant_id=told.scope.tenant_id,
        dataset_id=told.dataset_id,
        external_id=conversation.id,
        messages=[message.model_dump(mode="json") for message in conversation.messages],
        text_sha256=hashlib.sha256(conversation.id.encode()).hexdigest(),
        group_id=conversation.id,
        split=Split.test,
    )


def label_of(told: Trained, conversation: Conversation) -> Label:
    return Label(
        tenant_id=told.scope.tenant_id,
        conversation_id=uuid5(NAMESPACE_OID, conversation.id),
        schema_id=told.schema_id,
        schema_version_id=told.version.id,
        category_key=conversation.category,
        source=LabelSource.reviewer,
    )


@on_sqlite
async def test_a_conversation_that_is_too_long_for_the_model_is_left_out(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker
) -> None:
    long = conversations()[0]
    message = long.messages[0].model_copy(update={"text": "please " * 5000})
    frozen = [long.model_copy(update={"messages": (message,)}), *conversations()[1:]]
    told = await trained(database, settings, scope, frozen=frozen)
    vllm.models[told.adapters["rl"]] = oracle()
    gate = await measured(database, worker, told, await requested(database, told))
    assert gate.reasons[-1] == "1 held-out conversations were left out: they are too long for the model"


@on_sqlite
async def test_the_tenants_threshold_is_applied(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker
) -> None:
    def unsure(seen: Asked) -> Reply:
        (code,) = oracle()(seen).probabilities
        other = next(option.code for option in seen.options if option.code != code)
        return oracle()(seen)._replace(probabilities={code: 0.6, other: 0.3})

    told = await trained(database, settings, scope)
    vllm.models[told.adapters["rl"]] = unsure
    async with transaction(database, scope) as session:
        (await session.get_one(Tenant, scope.tenant_id)).abstain_below = 0.95
    gate = await measured(database, worker, told, await requested(database, told))
    made = report_of(settings, gate)
    accuracy = made.stages[-1].accuracy.value
    assert (
        made.threshold == 0.95 and accuracy is not None and accuracy < 0.5
    )  # never sure enough: none of these


async def make_due(database: Database, told: Trained, gate: GateResult) -> None:
    async with transaction(database) as session:
        row = await jobs.newest_of(session, told.scope, JobKind.gate, gate.id)
        assert row is not None
        await job_repository.write(session, row, {"available_at": now()})


async def test_with_vllm_away_the_gate_waits_for_it_however_long_that_is(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker,
    client: httpx.AsyncClient,
) -> None:  # fmt: skip
    told = await trained(database, settings, scope)
    vllm.models[told.adapters["rl"]] = oracle()
    vllm.status = 503
    gate = await requested(database, told)
    for _ in range(MAX_LOSSES + 1):
        job = await worker.work(scope, JobKind.gate, gate.id)
        assert (job.state, job.attempt, job.losses) == (JobState.queued, 0, 0)
        await make_due(database, told, gate)
    shown = (await client.get(f"/v1/gates/{gate.id}")).json()
    assert shown["state"] == "queued" and shown["progress"]["waits_for"] == "no model server answers"
    vllm.status = None
    assert (await measured(database, worker, told, gate)).verdict is Verdict.incomplete
    assert (await client.get(f"/v1/gates/{gate.id}")).json()["progress"]["waits_for"] is None


@on_sqlite
async def test_a_vllm_that_is_started_again_under_the_evaluation_costs_neither_an_attempt_nor_a_verdict(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("app.serving.replicas._WATCH_EVERY_S", 0.02)
    told = await trained(database, settings, scope)
    name = told.adapters["rl"]

    def forgetful(seen: Any) -> Any:
        vllm.adapters.clear()
        vllm.status = 503  # it starts, which takes longer than a question waits
        return oracle()(seen)

    vllm.models[name] = forgetful
    gate = await requested(database, told)
    job = await worker.work(scope, JobKind.gate, gate.id)
    assert (job.state, job.attempt, job.losses) == (JobState.queued, 0, 1)
    assert job.error is not None and "went away" in job.error["message"]
    assert (await read(database, told, gate)).state is GateState.running
    vllm.models[name], vllm.status = oracle(), None
    await make_due(database, told, gate)
    assert (await measured(database, worker, told, gate)).verdict is Verdict.incomplete


@on_sqlite
async def test_without_room_for_the_adapter_the_gate_waits(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm, worker: Worker
) -> None:
    told = await trained(database, settings, scope)
    vllm.adapters = {str(number) * 64: "/elsewhere" for number in range(settings.vllm_max_adapters)}
    job = await worker.work(scope, JobKind.gate, (await requested(database, told)).id)
    assert job.state is JobState.queued and job.error is not None
    assert job.error["code"] == "serving_full" and job.attempt == 0


@on_sqlite
async def test_a_model_of_another_base_is_not_measured(
    database: Database, settings: Settings, scope: TenantScope, worker: Worker, client: httpx.AsyncClient
) -> None:
    told = await trained(database, settings, scope)
    async with transaction(database, scope) as session:
        model = await session.merge(told.model)
        model.base_sha256 = "0" * 64
    gate = await requested(database, told)
    job = await worker.work(scope, JobKind.gate, gate.id)
    assert job.state is JobState.failed
    row = await read(database, told, gate)
    assert row.state is GateState.failed and "another base" in row.reasons[0] and row.verdict is None
    assert (await requested(database, told)).id != gate.id
    answer = await client.get(f"/v1/gates/{gate.id}/report")
    assert answer.status_code == 409 and "another base" in answer.json()["detail"]


@on_sqlite
async def test_a_frozen_dataset_that_was_changed_is_not_used(
    database: Database, settings: Settings, scope: TenantScope, worker: Worker
) -> None:
    told = await trained(database, settings, scope)
    snapshots = settings.home.parent / "storage" / "tenants" / str(scope.tenant_id) / "snapshots"
    (snapshot,) = snapshots.iterdir()
    snapshot.write_text(json.dumps({"id": "forged"}))
    job = await worker.work(scope, JobKind.gate, (await requested(database, told)).id)
    assert job.error is not None and job.error["code"] == "artifact_damaged"
