from datetime import datetime
from uuid import UUID

from pydantic import Field

from app.deployments.repository import FoundDeployment
from app.deployments.service import State
from app.http.payload import RequestBody, ResponseBody
from app.infra.tables.deployments import DeploymentState, EditState
from app.infra.tables.gates import GateState
from app.infra.tables.jobs import Job, JobState
from app.runs.presets import Preset
from evaluation.contract.mode import Mode
from evaluation.reporting.report import Verdict

DEPLOYMENT_ID = "d41b7f5c-2a68-4e93-b0c7-91f3a6e85d27"
GATE_ID = "9b2f6d1e-3c47-4f0a-8d55-7e1c2a9b4f60"
SCHEMA_ID = "3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"
_DATASET = "5a0d1c9e-7f4b-4c1d-9a53-3f2f6a1b7c20"
_MODEL = "6e0e5c8f-3f8c-4f6a-9f52-1a2b3c4d5e6f"
_BEFORE = "2c9e8f14-6d3b-4b7a-a5e1-0f4d7c2b9a83"
_TIME = "2026-01-02T10:45:00Z"


class DeploymentIn(RequestBody):
    gate_id: UUID = Field(
        description="A gate that has passed: its model and schema version are deployed.", examples=[GATE_ID]
    )


class RetrainOut(ResponseBody):
    """A run that would bring the deployment back: send it to `POST /v1/runs`."""

    schema_id: UUID = Field(description="The schema to train for.", examples=[SCHEMA_ID])
    dataset_id: UUID = Field(description="The dataset that the model learned from.", examples=[_DATASET])
    preset: Preset | None = Field(description="How much work it was.", examples=["standard"])


class DeploymentOut(ResponseBody):
    id: UUID = Field(description="The deployment's id.", examples=[DEPLOYMENT_ID])
    state: DeploymentState = Field(
        description="pending → loading → live → retired; or `failed`, and what was live before stays so.",
        examples=["live"],
    )
    schema_id: UUID = Field(description="The schema that it answers for.", examples=[SCHEMA_ID])
    schema_version: int = Field(description="Number of the version that was deployed.", examples=[2])
    model_version_id: UUID = Field(description="The model that answers.", examples=[_MODEL])
    gate_id: UUID = Field(description="The gate that allows it.", examples=[GATE_ID])
    mode: Mode = Field(
        description="In which it answers unless a request asks for another: that of its gate.",
        examples=["reasoned"],
    )
    replaces_id: UUID | None = Field(
        description="The deployment that was live before; null for the first, and until it is live.",
        examples=[_BEFORE],
    )
    created_at: datetime = Field(description="When it was asked for.", examples=[_TIME])
    activated_at: datetime | None = Field(description="Since when it is or was live.", examples=[_TIME])
    retired_at: datetime | None = Field(description="When another took its place.", examples=[None])
    problem: str | None = Field(
        description="Why it failed, what it waits for, or why nothing answers for it although it is live; null "
        "otherwise.",
        examples=["a model server does not answer"],
    )
    retrain: RetrainOut | None = Field(
        description="What is proposed where it is live and must not answer, such as after a change of the base; null "
        "otherwise."
    )

    @classmethod
    def of(cls, found: FoundDeployment, job: Job | None = None) -> "DeploymentOut":
        row = found.row
        waits = job is not None and job.state in (JobState.queued, JobState.running) and job.error is not None
        return cls(
            id=row.id,
            state=row.state,
            schema_id=row.schema_id,
            schema_version=found.schema_version,
            model_version_id=row.model_version_id,
            gate_id=row.gate_result_id,
            mode=found.mode,
            replaces_id=row.replaces_id,
            created_at=row.created_at,
            activated_at=row.activated_at,
            retired_at=row.retired_at,
            problem=(job.error or {}).get("message") if waits and job is not None else row.problem,
            retrain=_retrain(found) if row.state is DeploymentState.live and row.problem else None,
        )


def _retrain(found: FoundDeployment) -> RetrainOut:
    run = found.run
    preset = None if run.preset is None else Preset(run.preset)
    return RetrainOut(schema_id=found.row.schema_id, dataset_id=run.dataset_id, preset=preset)


class EditOut(ResponseBody):
    """A version that was published while the deployment was live."""

    state: EditState = Field(
        description="`waiting`: not served before its gate has passed. `provisional`: served until its gate fails. "
        "`confirmed`: its gate has passed. `reverted`: its gate has failed, or something newer came first.",
        examples=["waiting"],
    )
    schema_version: int = Field(description="Number of the version.", examples=[3])
    gate_id: UUID | None = Field(
        description="The gate on the live model and this version.", examples=[GATE_ID]
    )
    gate_state: GateState | None = Field(description="Of that gate.", examples=["done"])
    verdict: Verdict | None = Field(
        description="Of that gate. `incomplete` decides nothing; the gate may be repeated.",
        examples=["incomplete"],
    )
    reasons: list[str] = Field(
        description="Of that gate, one sentence each.",
        examples=[["flip accuracy could not be measured: there are no examples for it"]],
    )


class ServingOut(ResponseBody):
    schema_id: UUID = Field(description="The schema.", examples=[SCHEMA_ID])
    deployment: DeploymentOut | None = Field(description="What is live; null where nothing is.")
    schema_version: int | None = Field(
        description="Number of the version that answers are given with; null where nothing is live.",
        examples=[2],
    )
    provisional: bool = Field(
        description="Whether that version is served before its gate has passed.", examples=[False]
    )
    edit: EditOut | None = Field(
        description="The newest edit since the deployment; null where there is none."
    )

    @classmethod
    def of(cls, schema_id: UUID, state: State | None) -> "ServingOut":
        if state is None:
            return cls(
                schema_id=schema_id, deployment=None, schema_version=None, provisional=False, edit=None
            )
        return cls(
            schema_id=schema_id,
            deployment=DeploymentOut.of(
                FoundDeployment(
                    state.serving.row, state.serving.version.number, state.serving.mode, state.serving.run
                )
            ),
            schema_version=state.served.version.number,
            provisional=state.served.provisional,
            edit=_edit(state),
        )


def _edit(state: State) -> EditOut | None:
    if state.served.edit is None:
        return None
    row, version = state.served.edit
    gate = state.gate
    return EditOut(
        state=row.state,
        schema_version=version.number,
        gate_id=row.gate_result_id,
        gate_state=None if gate is None else gate.state,
        verdict=None if gate is None else gate.verdict,
        reasons=[] if gate is None else gate.reasons,
    )
