"""A model as a run leaves it: rows, a frozen dataset and adapters in the storage, with the starter as its base."""

import asyncio
import hashlib
import json
import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from app.auth import service as auth
from app.auth.principal import Scope
from app.auth.service import KeyOrder
from app.gates import service as gates
from app.gates.confidence import Fitted
from app.gates.service import GateDecision
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.files.door import FileDoor
from app.infra.files.repository import MadeFrom, NewFile
from app.infra.storage import open_storage
from app.infra.tables.datasets import Dataset, DatasetState
from app.infra.tables.files import FileKind
from app.infra.tables.jobs import JobKind
from app.infra.tables.runs import ModelVersion, Run, RunState
from app.infra.tables.schemas import SchemaVersion
from app.jobs import service as jobs
from app.jobs.ends import JobOutcome, Succeeded
from app.runs import artifacts
from app.schemas import service as schemas
from app.serving.base import digest, find_base
from app.settings import Settings
from evaluation.contract.record import Conversation
from evaluation.contract.schema import CategorySchema
from evaluation.gating.policy import load_policy
from evaluation.reporting.report import Verdict
from tests.evaluation.shop import SCHEMA, conversations

_PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"
_CONFIG = {"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"], "bias": "none"}


class Trained(NamedTuple):
    scope: TenantScope
    key_id: UUID
    schema_id: UUID
    version: SchemaVersion
    dataset_id: UUID
    model: ModelVersion

    @property
    def adapters(self) -> dict[str, str]:
        """Stage to the name under which a vLLM knows its adapter."""
        return {stage["kind"]: stage["sha256"] for stage in self.model.stages if stage["adapter_key"]}


async def trained(
    database: Database,
    settings: Settings,
    scope: TenantScope,
    *,
    stages: Sequence[str] = ("rl",),
    frozen: Sequence[Conversation] | None = None,
    max_items: int = 60,
) -> Trained:
    """frozen: by default all of the test shop's conversations."""
    async with transaction(database, scope) as session:
        key = await auth.create(session, None, scope.tenant_id, KeyOrder("editor", [Scope.admin]))
        schema = await schemas.create(session, scope, key.row.id, f"shop {uuid4().hex[:6]}", draft_of(SCHEMA))
        version = (await schemas.publish(session, scope, key.row.id, schema.id)).version
        dataset = Dataset(
            id=uuid4(), tenant_id=scope.tenant_id, schema_id=schema.id, name="chats", state=DatasetState.ready
        )
        session.add(dataset)
        await session.flush()
    begun = Trained(scope, key.row.id, schema.id, version, dataset.id, ModelVersion())
    made = await retrained(
        database, settings, begun, stages=stages, frozen=frozen, max_items=max_items, number=1
    )
    return begun._replace(model=made)


async def retrained(
    database: Database,
    settings: Settings,
    before: Trained,
    *,
    number: int,
    stages: Sequence[str] = ("rl",),
    frozen: Sequence[Conversation] | None = None,
    max_items: int = 60,
) -> ModelVersion:
    """Another model for the same schema version. number: makes its adapters different from others'."""
    scope, storage = before.scope, open_storage(settings.storage_url)
    rows = [c.model_dump(mode="json", exclude_unset=True) for c in frozen or conversations()]
    content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    sha256 = hashlib.sha256(content).hexdigest()
    scratch = settings.home / "scratch" / uuid4().hex
    scratch.mkdir(parents=True)
    snapshot = scratch / "snapshot.jsonl"
    snapshot.write_bytes(content)
    key = f"tenants/{scope.tenant_id}/snapshots/{sha256}.jsonl"
    door = FileDoor(storage, database, scope)
    frozen_as = NewFile(key, FileKind.snapshot, MadeFrom(dataset_id=before.dataset_id))
    await door.put(snapshot, frozen_as)
    run = Run(
        id=uuid4(), tenant_id=scope.tenant_id, schema_version_id=before.version.id, dataset_id=before.dataset_id,
        snapshot_key=key, snapshot_sha256=sha256, preset="smoke", base="starter", state=RunState.succeeded,
        settings={"benchmark": {"max_items": max_items, "seed": 0}},
    )  # fmt: skip
    async with transaction(database, scope) as session:
        session.add(run)
    made: list[dict[str, Any]] = [_stage("traces", None, "0" * 64)]
    for kind in stages:
        folder, frozen_in = adapter(scratch / kind, lora_alpha=f"{number} {kind}"), scratch / f"{kind}-w"
        put = await asyncio.to_thread(artifacts.put_adapter, door, run.id, folder, frozen_in, 32)
        made.append(_stage(kind, *put))
    model = ModelVersion(
        id=uuid4(), tenant_id=scope.tenant_id, run_id=run.id, schema_version_id=before.version.id,
        base_sha256=digest(find_base("starter")), adapter_sha256=made[-1]["sha256"],
        adapter_key=made[-1]["adapter_key"], stages=made, created_at=utc_now(),
    )  # fmt: skip
    async with transaction(database, scope) as session:
        session.add(model)
    return model


async def edited(database: Database, told: Trained, schema: CategorySchema) -> SchemaVersion:
    """The next published version."""
    async with transaction(database, told.scope) as session:
        row = await schemas.get(session, told.scope, told.schema_id, lock=True)
        row.draft = draft_of(schema)
        await session.flush()
        return (await schemas.publish(session, told.scope, told.key_id, told.schema_id)).version


async def decided(
    database: Database, told: Trained, gate_id: UUID | str, verdict: Verdict, fitted: Fitted | None = None
) -> None:
    """As the gate's job does it, had it measured."""
    decision = GateDecision(verdict, [f"it is {verdict}"], load_policy().sha256, None, fitted)
    async with transaction(database, told.scope) as session:
        job = await jobs.newest_of(session, told.scope, JobKind.gate, UUID(str(gate_id)))
        assert job is not None
        apply = partial(gates.decide, scope=told.scope, gate_id=UUID(str(gate_id)), decision=decision)
        claimed = await jobs.claim(session, job.id, "a worker", 60)
        assert claimed is not None
        await jobs.finish(session, jobs.ticket_of(claimed), Succeeded(JobOutcome({}, apply)))


def reworded(text: str) -> CategorySchema:
    """The test shop with another definition of its first category."""
    first, *others = SCHEMA.categories
    changed = first.model_copy(update={"definition": text})
    return SCHEMA.model_copy(update={"categories": (changed, *others)})


def draft_of(schema: CategorySchema) -> dict[str, Any]:
    return {name: value for name, value in schema.model_dump(mode="json").items() if name != "name"}


def adapter(folder: Path, **changed: Any) -> Path:
    """As small as an adapter can be; what is changed in its configuration makes it another one."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(_CONFIG | changed))
    (folder / "adapter_model.safetensors").write_bytes(_weights())
    return folder


def _stage(kind: str, key: str | None, sha256: str) -> dict[str, Any]:
    return {"kind": kind, "artifact_key": key or "traces", "adapter_key": key, "sha256": sha256,
            "metrics": {}, "seconds": 1.0}  # fmt: skip


def _weights() -> bytes:
    size = 4 * 8 * 4
    header = {
        f"{_PREFIX}.lora_A.weight": {"dtype": "F32", "shape": [4, 8], "data_offsets": [0, size]},
        f"{_PREFIX}.lora_B.weight": {"dtype": "F32", "shape": [8, 4], "data_offsets": [size, 2 * size]},
    }
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(2 * size)
