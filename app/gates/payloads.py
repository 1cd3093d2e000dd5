from datetime import datetime
from uuid import UUID

from pydantic import Field

from app.gates.repository import FoundGate
from app.http.payload import RequestBody, ResponseBody
from app.infra.tables.gates import GateState
from app.infra.tables.jobs import Job, JobState
from evaluation.contract.mode import Mode
from evaluation.reporting.report import Verdict

MAX_NUMBER = 2**31 - 1
GATE_ID = "9b2f6d1e-3c47-4f0a-8d55-7e1c2a9b4f60"
MODEL_ID = "6e0e5c8f-3f8c-4f6a-9f52-1a2b3c4d5e6f"
SCHEMA_ID = "3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"
_REASON = "steerability is 0.91 (95 % interval 0.86 to 0.94) over 480 examples; at least 0.80 is asked"


class GateIn(RequestBody):
    model_version_id: UUID = Field(description="The model that is to be measured.", examples=[MODEL_ID])
    schema_version: int | None = Field(
        None,
        description="Number of the version of its schema to measure it under; left out: the one it was trained for.",
        ge=1,
        le=MAX_NUMBER,
        examples=[2],
    )
    mode: Mode | None = Field(
        None,
        description="How the model is asked: `reasoned`, or `fast`, the code at once. Another mode is another gate. "
        "Left out: the tenant's; where that is `auto`, both get one, and that of `reasoned` is returned.",
        examples=["fast"],
    )


class GateProgressOut(ResponseBody):
    """The job that measures."""

    job_id: UUID = Field(description="Id of the job.", examples=["1f6a3bb0-9a4e-47e0-8d0d-0d3b1a5e7c44"])
    state: JobState = Field(description="Of the job.", examples=["running"])
    done: int | None = Field(description="Questions answered so far.", examples=[840])
    total: int | None = Field(description="Questions in all, over the stages compared.", examples=[2400])
    message: str | None = Field(description="What it does now.", examples=["evaluate rl"])
    waits_for: str | None = Field(
        description="Why it waits, or why its last attempt ended early; null where neither is so.",
        examples=["no model server answers"],
    )

    @classmethod
    def of(cls, job: Job) -> "GateProgressOut":
        at = job.progress or {}
        ended_well = job.state is JobState.succeeded
        return cls(
            job_id=job.id,
            state=job.state,
            done=at.get("done"),
            total=at.get("total"),
            message=at.get("message"),
            waits_for=None if ended_well or job.error is None else job.error.get("message"),
        )


class ShareOut(ResponseBody):
    value: float | None = Field(description="Null: nothing to measure.", examples=[0.93])
    n: int = Field(description="Of so many answers.", examples=[120])
    ci95: tuple[float, float] | None = Field(description="Its 95 % interval.", examples=[[0.88, 0.97]])


class ToLabelOut(ResponseBody):
    conversation_id: str = Field(description="As it was uploaded.", examples=["c-1041"])
    answered: str | None = Field(
        description="What the model answers; null: none of these.", examples=["refund"]
    )
    why: str = Field(description="Why it comes before others.", examples=["as it comes"])


class LabelFreeOut(ResponseBody):
    """What could be measured without labels. It says how answers are come by and not whether they are right, so it
    never decides."""

    n: int = Field(
        description="Conversations that were asked, and whose answers could be read.", examples=[140]
    )
    follows: ShareOut = Field(
        description="Of answers whose definition went to another category, the share that went with it."
    )
    stays: dict[str, ShareOut] = Field(
        description="By kind of edit: of answers that must not move, the share that did not.", examples=[{}]
    )
    injection_success: ShareOut = Field(
        description="The share of prompt injections that got the answer that they wanted."
    )
    unparsable: ShareOut = Field(description="The share of answers that could not be read.")
    labelled: int = Field(description="Held-out conversations that have a label.", examples=[12])
    missing: int = Field(description="How many more labels are needed, at least.", examples=[38])
    label_first: list[ToLabelOut] = Field(
        description="Conversations whose labels would decide it soonest, in this order."
    )


class GateOut(ResponseBody):
    id: UUID = Field(description="The gate's id.", examples=[GATE_ID])
    state: GateState = Field(
        description="queued → running → done. `failed`: it could not be measured, and may be asked for again.",
        examples=["done"],
    )
    verdict: Verdict | None = Field(
        description="`passed` and `failed` are final for this model, schema version and policy. `incomplete`: what was "
        "measured does not decide, and it may be repeated. Null until it is done.",
        examples=["passed"],
    )
    reasons: list[str] = Field(description="Why, one sentence each.", examples=[[_REASON]])
    model_version_id: UUID = Field(description="The model that was measured.", examples=[MODEL_ID])
    schema_id: UUID = Field(description="The schema.", examples=[SCHEMA_ID])
    schema_version: int = Field(description="Number of the version that it was measured under.", examples=[2])
    mode: Mode = Field(
        description="In which the model was asked, and in which a deployment serves it.",
        examples=["reasoned"],
    )
    policy_sha256: str = Field(description="Of the policy that decided.", examples=["9f" * 32])
    label_free: LabelFreeOut | None = Field(
        description="What was measured without labels, and which of them to give first; null where labels are not what "
        "the gate lacks."
    )
    progress: GateProgressOut | None = Field(
        description="The job that measures; null in lists.", examples=[None]
    )
    created_at: datetime = Field(description="When it was asked for.", examples=["2026-01-02T10:30:00Z"])
    finished_at: datetime | None = Field(
        description="When it ended; null while it has not.", examples=["2026-01-02T10:42:00Z"]
    )

    @classmethod
    def of(cls, found: FoundGate, job: Job | None = None) -> "GateOut":
        row = found.row
        return cls(
            id=row.id,
            state=row.state,
            verdict=row.verdict,
            reasons=row.reasons,
            model_version_id=row.model_version_id,
            schema_id=found.schema_id,
            schema_version=found.schema_version,
            mode=row.mode,
            policy_sha256=row.policy_sha256,
            label_free=None if row.label_free is None else LabelFreeOut.model_validate(row.label_free),
            progress=None if job is None else GateProgressOut.of(job),
            created_at=row.created_at,
            finished_at=row.finished_at,
        )
