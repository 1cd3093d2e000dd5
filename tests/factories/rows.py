"""Rows that lead to a deployment, for tests that begin somewhere in the middle."""

from datetime import date, timedelta
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.base import Base, utc_now
from app.infra.db.scope import TenantScope
from app.infra.tables.answers import KeptAnswer
from app.infra.tables.auth import ApiKey, Person
from app.infra.tables.datasets import (
    ConversationBand,
    ConversationRow,
    Dataset,
    DatasetState,
    Label,
    LabelSource,
    UploadRow,
)
from app.infra.tables.deployments import Deployment, ServedEdit
from app.infra.tables.files import FileKind, StoredFile
from app.infra.tables.gates import GateResult, GateState
from app.infra.tables.jobs import Job, JobEvent, JobKind
from app.infra.tables.processes import Maintenance, Process, ProcessKind
from app.infra.tables.records import AnswerHour, AuditEvent, AuditLink, IdempotencyKey, UsageDay
from app.infra.tables.runs import ModelVersion, Run, TeacherSpending
from app.infra.tables.schemas import Republication, Schema, SchemaVersion
from app.infra.tables.tenants import HeldBytes, HeldKind, Tenant
from app.infra.tables.triggers import Trigger, TriggerKind
from app.serving.base import STARTER, digest, find_base
from evaluation.contract.mode import Mode
from evaluation.contract.record import Split
from evaluation.contract.schema import Category, CategorySchema
from evaluation.reporting.report import Verdict

CONTENT = CategorySchema(
    name="support",
    none_of_these=True,
    categories=(
        Category(key="refund", name="Refund", definition="The customer wants their money back."),
        Category(key="delivery", name="Delivery", definition="The customer asks where a parcel is."),
    ),
).model_dump(mode="json")


def sha256() -> str:
    """As long as a real one, and never the same twice."""
    return uuid4().hex * 2


class Story(NamedTuple):
    """From a tenant to a model and its gate, in the order in which they can be stored."""

    tenant: Tenant
    schema: Schema
    version: SchemaVersion
    dataset: Dataset
    conversation: ConversationRow
    label: Label
    run: Run
    model: ModelVersion
    gate: GateResult
    answer: KeptAnswer
    trigger: Trigger

    @property
    def scope(self) -> TenantScope:
        return TenantScope(self.tenant.id)


def story(verdict: Verdict | None = Verdict.passed) -> Story:
    tenant = Tenant(id=uuid4(), name=f"tenant {uuid4().hex[:8]}")
    own = {"tenant_id": tenant.id}
    schema = Schema(id=uuid4(), name="support", draft=CONTENT, **own)
    version = version_of(schema, 1)
    dataset = Dataset(id=uuid4(), schema_id=schema.id, name="march", state=DatasetState.ready, **own)
    conversation = ConversationRow(
        id=uuid4(),
        dataset_id=dataset.id,
        external_id="c1",
        messages=[{"role": "customer", "text": "Where is my parcel?"}],
        text_sha256=sha256(),
        group_id="c1",
        split=Split.train,
        **own,
    )
    label = Label(
        conversation_id=conversation.id,
        schema_id=schema.id,
        schema_version_id=version.id,
        category_key="delivery",
        source=LabelSource.import_,
        **own,
    )
    run = run_of(version, dataset)
    model = model_of(run)
    gate = gate_of(model, version, verdict)
    answer = answer_of(version, model)
    trigger = trigger_of(dataset)
    return Story(tenant, schema, version, dataset, conversation, label, run, model, gate, answer, trigger)


def version_of(schema: Schema, number: int) -> SchemaVersion:
    return SchemaVersion(
        id=uuid4(),
        tenant_id=schema.tenant_id,
        schema_id=schema.id,
        number=number,
        content=CONTENT,
        sha256=sha256(),
    )


def run_of(version: SchemaVersion, dataset: Dataset) -> Run:
    return Run(
        id=uuid4(),
        tenant_id=version.tenant_id,
        schema_version_id=version.id,
        dataset_id=dataset.id,
        snapshot_key="runs/snapshot.jsonl",
        snapshot_sha256=sha256(),
        preset="smoke",
        settings={},
        base="starter",
    )


def model_of(run: Run) -> ModelVersion:
    return ModelVersion(
        id=uuid4(),
        tenant_id=run.tenant_id,
        run_id=run.id,
        schema_version_id=run.schema_version_id,
        base_sha256=_base_sha256(),
        adapter_sha256=sha256(),
        adapter_key="adapters/one",
        stages=[],
    )


@cache
def _base_sha256() -> str:
    """Of the base that is served in tests: a model of another answers nothing."""
    return digest(find_base(STARTER))


def gate_of(model: ModelVersion, version: SchemaVersion, verdict: Verdict | None) -> GateResult:
    return GateResult(
        id=uuid4(),
        tenant_id=model.tenant_id,
        model_version_id=model.id,
        schema_version_id=version.id,
        policy_sha256="0" * 64,
        state=GateState.queued if verdict is None else GateState.done,
        verdict=verdict,
    )


def answer_of(version: SchemaVersion, model: ModelVersion, **changes: Any) -> KeptAnswer:
    now = utc_now()
    fields = {
        "id": uuid4(),
        "tenant_id": version.tenant_id,
        "created_at": now,
        "expires_at": now + timedelta(days=30),
        "schema_id": version.schema_id,
        "schema_version_id": version.id,
        "model_version_id": model.id,
        "messages": [{"role": "customer", "text": "Where is my parcel?"}],
        "size_bytes": 50,
        "mode": Mode.reasoned,
        "category_key": "delivery",
        "confidence": 0.9,
        "abstained": False,
        "degraded": False,
        "provisional": False,
    }
    return KeptAnswer(**fields | changes)


def trigger_of(dataset: Dataset, **changes: Any) -> Trigger:
    fields = {
        "id": uuid4(),
        "tenant_id": dataset.tenant_id,
        "name": f"trigger {uuid4().hex[:8]}",
        "schema_id": dataset.schema_id,
        "dataset_id": dataset.id,
        "kind": TriggerKind.by_hand,
        "rule": {"kind": "by_hand"},
        "preset": "smoke",
        "cool_down_h": 24,
        "budget_window_h": 168,
        "budget_runs": 2,
    }
    return Trigger(**fields | changes)


def deployment_of(told: Story, **changes: Any) -> Deployment:
    fields = {
        "id": uuid4(),
        "tenant_id": told.tenant.id,
        "schema_id": told.schema.id,
        "gate_result_id": told.gate.id,
        "model_version_id": told.model.id,
        "schema_version_id": told.version.id,
    }
    return Deployment(**fields | changes)


def ids_of(told: Story, live: Deployment, key_id: UUID) -> dict[str, UUID | int | str]:
    """What a story has, by the names of parameters and fields that ask for it."""
    return {
        "tenant_id": told.tenant.id, "schema_id": told.schema.id, "schema": told.schema.id,
        "schema_version_id": told.version.id, "number": told.version.number, "dataset_id": told.dataset.id,
        "conversation_id": told.conversation.id, "run_id": told.run.id, "kind": "sft", "gate_id": told.gate.id,
        "model_version_id": told.model.id, "deployment_id": live.id, "key_id": key_id,
        "answer_id": told.answer.id, "trigger_id": told.trigger.id,
    }  # fmt: skip


def all_that_follows(told: Story) -> list[Base]:
    """One row at least of every table that a story leaves empty."""
    own: dict[str, Any] = {"tenant_id": told.tenant.id}
    job = Job(id=uuid4(), kind=JobKind.sft, subject_id=told.run.id, run_id=told.run.id, **own)
    deployment = deployment_of(told)
    edited = version_of(told.schema, 2)
    event = AuditEvent(id=uuid4(), action="deployment.create", subject=f"deployment:{deployment.id}", **own)
    return [
        job,
        JobEvent(job_id=job.id, run_id=told.run.id, event={"step": 1}, **own),
        deployment,
        edited,
        ServedEdit(schema_id=told.schema.id, deployment_id=deployment.id, schema_version_id=edited.id, **own),
        Republication(schema_id=told.schema.id, schema_version_id=told.version.id, **own),
        IdempotencyKey(key="k", route="POST /v1/runs", body_sha256=sha256(), **own),
        ApiKey(name="client", prefix=uuid4().hex[:12], digest=sha256(), scopes=["classify"], **own),
        Person(id=uuid4(), issuer="https://issuer.test", subject="ada", last_seen_at=utc_now(), **own),
        UploadRow(dataset_id=told.dataset.id, media_type="application/jsonl", key="uploads/one", **own),
        ConversationBand(conversation_id=told.conversation.id, dataset_id=told.dataset.id, band=7, **own),
        StoredFile(kind=FileKind.upload, key=f"uploads/{uuid4().hex}", dataset_id=told.dataset.id, **own),
        HeldBytes(kind=HeldKind.upload, holder=told.dataset.id, size_bytes=7, **own),
        TeacherSpending(run_id=told.run.id, teacher="large", month=date(2026, 1, 1), granted_usd=5.0, **own),
        Maintenance(id=uuid4().int % 10**9, reason="an upgrade", **own),
        Process(kind=ProcessKind.worker, host="here", about={}, **own),
        UsageDay(day=told.tenant.created_at.date(), **own),
        AnswerHour(
            model_version_id=told.model.id,
            schema_version_id=told.version.id,
            schema_id=told.schema.id,
            hour=told.answer.created_at.replace(minute=0, second=0, microsecond=0),
            outcome="delivery",
            answers=3,
            masses=3,
            mass_sum=2.9,
            mass_squares=2.8,
            **own,
        ),
        event,
        AuditLink(
            id=event.id, chain=str(told.tenant.id), number=1, previous_sha256="0" * 64, sha256=sha256(), **own
        ),
    ]


async def save(session: AsyncSession, *rows: Base) -> None:
    """One after the other: the session does not know that a row refers to another."""
    for row in rows:
        session.add(row)
        await session.flush()
