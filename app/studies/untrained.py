"""An installation that answers without having been trained: for measuring speed, and for nothing else.

Its adapter is what training would begin with (random, and without any effect yet), and the gate that its deployment
names was never run. So what it answers is the base's answer, at the cost of a trained adapter's.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import numpy as np
from safetensors.numpy import save_file
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import service as auth
from app.auth.principal import Scope
from app.auth.service import KeyOrder
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.datasets import Dataset, DatasetState
from app.infra.tables.deployments import Deployment, DeploymentState
from app.infra.tables.gates import GateResult, GateState
from app.infra.tables.runs import ModelVersion, Run, RunState
from app.infra.tables.schemas import SchemaVersion
from app.infra.tables.tenants import Tenant
from app.runs.artifacts import adapter_key
from app.schemas import service as schemas
from app.serving import adapters
from app.serving.adapters import CONFIG, WEIGHTS, Adapter
from app.serving.base import ModelBase, digest
from evaluation.contract.schema import CategorySchema
from evaluation.gating.policy import load_policy
from evaluation.reporting.report import Verdict

_NAME = "speed"


class Installation(NamedTuple):
    """api_key: one that may classify."""

    scope: TenantScope
    schema_id: UUID
    api_key: str


def write_adapter(base: ModelBase, rank: int, store: Path, seed: int = 0) -> Adapter:
    """On every linear layer, as training makes it; in a folder of `store` that is named after its content."""
    shape = json.loads((base.folder / "config.json").read_text())
    staging = store / "untrained"
    staging.mkdir(parents=True)
    save_file(_matrices(shape, rank, seed), str(staging / WEIGHTS))
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "bias": "none",
        "target_modules": modules,
    }
    (staging / CONFIG).write_text(json.dumps(config | {"task_type": "CAUSAL_LM"}))
    made = adapters.check(staging, rank)
    return made._replace(folder=staging.rename(store / made.sha256))


async def install(
    database: Database, base: ModelBase, adapter: Adapter, schema: CategorySchema, name: str = _NAME
) -> Installation:
    """name: of the tenant."""
    async with transaction(database) as session:
        tenant = Tenant(name=name)
        session.add(tenant)
        await session.flush()
        key = await auth.create(session, None, tenant.id, KeyOrder(_NAME, [Scope.classify]))
    scope = TenantScope(tenant.id)
    async with transaction(database, scope) as session:
        version = await _published(session, scope, key.row.id, schema)
        rows = _rows(scope, version, base, adapter)
        for made in (*rows.before, rows.gate, rows.deployment):
            session.add(made)
            await session.flush()
    return Installation(scope, version.schema_id, key.text)


async def add_passed_gate(
    database: Database,
    scope: TenantScope,
    key_id: UUID,
    base: ModelBase,
    adapter: Adapter,
    schema: CategorySchema,
) -> UUID:
    """Of one more schema and model of the tenant, which it may deploy. Returns the gate's id."""
    async with transaction(database, scope) as session:
        rows = _rows(scope, await _published(session, scope, key_id, schema), base, adapter)
        for made in (*rows.before, rows.gate):
            session.add(made)
            await session.flush()
    return rows.gate.id


async def _published(
    session: AsyncSession, scope: TenantScope, key_id: UUID, schema: CategorySchema
) -> SchemaVersion:
    draft = schema.model_dump(mode="json", exclude={"name"})
    row = await schemas.create(session, scope, key_id, schema.name, draft)
    return (await schemas.publish(session, scope, key_id, row.id)).version


class _Rows(NamedTuple):
    """In the order in which they can be stored."""

    before: list[Any]
    gate: GateResult
    deployment: Deployment


def _rows(scope: TenantScope, version: SchemaVersion, base: ModelBase, adapter: Adapter) -> _Rows:
    own: dict[str, Any] = {"tenant_id": scope.tenant_id, "id": uuid4()}
    dataset = Dataset(**own, schema_id=version.schema_id, name=_NAME, state=DatasetState.ready)
    run = Run(
        **own | {"id": uuid4()},
        schema_version_id=version.id,
        dataset_id=dataset.id,
        snapshot_key="none",
        snapshot_sha256="0" * 64,
        settings={},
        base=base.name,
        state=RunState.succeeded,
        finished_at=utc_now(),
    )
    model = ModelVersion(
        **own | {"id": uuid4()},
        run_id=run.id,
        schema_version_id=version.id,
        base_sha256=digest(base),
        adapter_sha256=adapter.sha256,
        adapter_key=adapter_key(scope.tenant_id, adapter.sha256),
        stages=[],
    )
    pair = {"model_version_id": model.id, "schema_version_id": version.id}
    gate = GateResult(
        **own | {"id": uuid4()} | pair,
        policy_sha256=load_policy().sha256,
        state=GateState.done,
        verdict=Verdict.passed,
        reasons=["not measured: this installation is for measuring speed"],
    )
    deployment = Deployment(
        **own | {"id": uuid4()} | pair,
        schema_id=version.schema_id,
        gate_result_id=gate.id,
        verdict=Verdict.passed,
        state=DeploymentState.live,
        activated_at=utc_now(),
    )
    return _Rows([dataset, run, model], gate, deployment)


def _matrices(shape: dict[str, Any], rank: int, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """As PEFT begins: A random, B zero, so that the product is zero."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    head = shape.get("head_dim") or hidden // shape["num_attention_heads"]
    queries, keys = head * shape["num_attention_heads"], head * shape["num_key_value_heads"]
    widths = {
        "self_attn.q_proj": (hidden, queries),
        "self_attn.k_proj": (hidden, keys),
        "self_attn.v_proj": (hidden, keys),
        "self_attn.o_proj": (queries, hidden),
        "mlp.gate_proj": (hidden, inner),
        "mlp.up_proj": (hidden, inner),
        "mlp.down_proj": (inner, hidden),
    }
    random = np.random.default_rng(seed)
    made = {}
    for layer in range(shape["num_hidden_layers"]):
        for name, (wide_in, wide_out) in widths.items():
            place = f"base_model.model.model.layers.{layer}.{name}"
            bound = wide_in**-0.5
            made[f"{place}.lora_A.weight"] = random.uniform(-bound, bound, (rank, wide_in)).astype(np.float32)
            made[f"{place}.lora_B.weight"] = np.zeros((wide_out, rank), np.float32)
    return made
