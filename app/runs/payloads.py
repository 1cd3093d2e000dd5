from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, GetPydanticSchema, WithJsonSchema

from app.http.payload import RequestBody, ResponseBody
from app.infra.db.base import utc_now
from app.infra.tables.jobs import Job, JobEvent, JobState
from app.infra.tables.runs import RunState
from app.jobs.priority import Priority
from app.runs import requests
from app.runs.presets import Preset
from app.runs.repository import Model
from app.runs.requests import RunRequest
from app.runs.service import View
from app.schemas.payloads import MAX_NUMBER
from app.settings import Settings
from evaluation.contract.seeds import MAX_SEED
from training.config import Stage
from training.protocol import STAGES, StageKind

_RUN = "8a4e7f0c-2f7d-4d38-9d0f-0f6c3a1b5e21"
_MODEL = "b2c1d0e9-6a5b-4c3d-8e2f-1a0b9c8d7e6f"
_SCHEMA = "3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"
_DATASET = "5a0d1c9e-7f4b-4c1d-9a53-3f2f6a1b7c20"
_TRIGGER = "0d7c3f52-8b1e-4a6f-9c24-5e8f7a6b1d39"
_WHY = "the population stability index of the last 2310 answers against the first 1902 is 0.314; 0.2 starts a run"
_TIME = "2026-01-02T10:30:00Z"
_METRICS = {"loss_first": 1.92, "loss_last": 0.41, "step": 60}
_ERROR = {
    "code": "non_finite_loss",
    "message": "the gradient of step 13 is not finite, so the step was not taken; lower the learning rate",
    "details": [],
}
_STAGE = {"kind": "sft", "epochs": 3.0, "learning_rate": 0.0002}
_STAGES_SCHEMA = {
    "anyOf": [
        {
            "type": "array",
            "maxItems": 4,
            "items": {
                "type": "object",
                "required": ["kind"],
                "properties": {"kind": {"type": "string", "enum": list(STAGES)}},
                "additionalProperties": True,
            },
        },
        {"type": "null"},
    ]
}
_STAGES = Annotated[list[Stage], Field(max_length=4)] | None
# Checked as stages, but told of as objects: the sixty settings are described where they are defined, for whoever
# trains, and FastAPI would list every model that it finds in the annotation.
Stages = Annotated[
    Any, GetPydanticSchema(lambda _, handler: handler(_STAGES)), WithJsonSchema(_STAGES_SCHEMA)
]


class RunIn(RequestBody):
    MAX_BYTES = 64 << 10

    schema_id: UUID = Field(description="The schema to train for.", examples=[_SCHEMA])
    schema_version: int | None = Field(
        None,
        description="Number of its version; by default the current one.",
        examples=[2],
        ge=1,
        le=MAX_NUMBER,
    )
    dataset_id: UUID = Field(
        description="The dataset to learn from, as it is now: later changes of it do not reach the run.",
        examples=[_DATASET],
    )
    preset: Preset = Field(
        Preset.standard, description="How much work the stages are.", examples=["standard"]
    )
    stages: Stages = Field(
        None,
        description="Settings of single stages. Each takes the place of the preset's stage of its `kind` as a whole: "
        "what it leaves out has the stage's own default. A setting that does not exist is refused.",
        examples=[[_STAGE]],
    )
    seed: int = Field(0, description="Of everything random in the run.", examples=[0], ge=0, le=MAX_SEED)
    base: str | None = Field(
        None,
        description="The base model; by default, and at present always, the one that the installation serves.",
        min_length=1,
        max_length=500,
        examples=["starter"],
    )

    needs_gib: float | None = Field(
        None,
        description="How many GiB a worker must have for its stages, on its GPU or, without one, in its machine. Left "
        "out: the most that stages of the tenant's last runs on this base with this preset have used; before the "
        "first, any will do.",
        gt=0,
        le=100_000,
        examples=[40],
    )
    priority: Priority = Field(
        Priority.normal,
        description="Which of the tenant's own stages and gates begin first where several wait; other tenants have "
        "their turns all the same.",
        examples=["high"],
    )

    def order(self, settings: Settings) -> RunRequest:
        """Raises: BaseNotServed, InvalidRequest."""
        asked = RunRequest(
            schema_id=self.schema_id,
            schema_version=self.schema_version,
            dataset_id=self.dataset_id,
            preset=self.preset,
            plan=requests.planned(self.preset, self.stages or ()),
            seed=self.seed,
            base=settings.base if self.base is None else self.base,
            needs_bytes=None if self.needs_gib is None else int(self.needs_gib * (1 << 30)),
            priority=self.priority,
        )
        requests.check(asked, settings)
        return asked


class FailureOut(ResponseBody):
    code: str = Field(description="What kind of failure, for programs.", examples=[_ERROR["code"]])
    message: str = Field(description="What went wrong, and what to do.", examples=[_ERROR["message"]])
    details: list[str] = Field(description="Further lines, such as the end of a log.", examples=[[]])


class RunFailureOut(FailureOut):
    stage: StageKind = Field(description="The stage that failed.", examples=["rl"])


class ProgressOut(ResponseBody):
    stage: StageKind = Field(
        description="The stage that runs; else the next to run; once the run has ended, the last that did.",
        examples=["sft"],
    )
    done: int | None = Field(description="Its steps so far; null: none yet.", examples=[24])
    total: int | None = Field(description="Its steps in all; null: not known yet.", examples=[60])
    message: str | None = Field(description="What it does now.", examples=["training"])
    eta_s: float | None = Field(
        description="Seconds that the stage will take from now, by the pace measured; null: not known yet.",
        examples=[41.5],
    )


class StageOut(ResponseBody):
    kind: StageKind = Field(description="Which stage.", examples=["sft"])
    needs_gib: float | None = Field(
        description="How much memory a worker must have for it; null: nobody knows.", examples=[11.5]
    )
    state: JobState = Field(
        description="blocked (until the stage before it is done) → queued → running → succeeded, failed or cancelled.",
        examples=["running"],
    )
    attempt: int = Field(description="Counts its starts, but for those lost with a machine.", examples=[1])
    done: int | None = Field(description="Steps so far; null: none yet.", examples=[24])
    total: int | None = Field(description="Steps in all; null: not known yet.", examples=[60])
    message: str | None = Field(description="What it does, or did last.", examples=["training"])
    eta_s: float | None = Field(description="Seconds from now, while it runs.", examples=[41.5])
    started_at: datetime | None = Field(description="When its last start was.", examples=[_TIME])
    finished_at: datetime | None = Field(description="When it ended.", examples=[None])
    heard_at: datetime | None = Field(
        description="While it runs: when its worker gave its last sign of life. One that stays silent loses it.",
        examples=[_TIME],
    )
    silent_s: float | None = Field(description="While it runs: how long ago that was.", examples=[3.2])
    metrics: dict[str, Any] | None = Field(
        description="While it runs the newest, afterwards those of its end; null: none.", examples=[_METRICS]
    )
    error: FailureOut | None = Field(
        description="Why its last attempt failed, or what it waits for (`no_worker_fits`); null: neither."
    )

    @classmethod
    def of(cls, job: Job, newest: JobEvent | None, now: datetime) -> "StageOut":
        at = job.progress or {}
        heard_at = (job.heartbeat_at or job.started_at) if job.state is JobState.running else None
        return cls(
            kind=job.kind.value,
            needs_gib=None if job.needs_bytes is None else round(job.needs_bytes / (1 << 30), 2),
            state=job.state,
            attempt=job.attempt,
            done=at.get("done"),
            total=at.get("total"),
            message=at.get("message"),
            eta_s=_eta_s(job, newest, now),
            started_at=job.started_at,
            finished_at=job.finished_at,
            heard_at=heard_at,
            silent_s=None if heard_at is None else round(max(0.0, (now - heard_at).total_seconds()), 1),
            metrics=_metrics(newest),
            error=None if job.error is None else FailureOut(**_three(job.error)),
        )


class RunTriggerOut(ResponseBody):
    """Why a run began by itself, as it was found then."""

    trigger_id: UUID = Field(description="The trigger, which may be gone.", examples=[_TRIGGER])
    name: str = Field(description="What it was called.", examples=["weekly drift"])
    kind: str = Field(description="What it waits for.", examples=["drift"])
    reason: str = Field(description="Why it started, with the figures that decided.", examples=[_WHY])
    figures: dict[str, Any] = Field(
        description="The same for programs.", examples=[{"stability_index": 0.314, "answers": 2310}]
    )
    threshold: float | None = Field(description="What they were compared with.", examples=[0.2])
    window_h: int | None = Field(description="Over how many hours.", examples=[168])
    rule: dict[str, Any] = Field(
        description="Its rule as it was.", examples=[{"kind": "drift", "threshold": 0.2}]
    )
    at: datetime = Field(description="When it was looked at.", examples=[_TIME])


class RunOut(ResponseBody):
    id: UUID = Field(description="The run's id.", examples=[_RUN])
    state: RunState = Field(
        description="queued → running → succeeded, failed or cancelled.", examples=["running"]
    )
    schema_id: UUID = Field(description="The schema that it trains for.", examples=[_SCHEMA])
    schema_version: int = Field(description="Number of the version of it.", examples=[2])
    dataset_id: UUID = Field(description="The dataset that was frozen for it.", examples=[_DATASET])
    preset: Preset | None = Field(description="How much work the stages are.", examples=["standard"])
    seed: int = Field(description="Of everything random in it.", examples=[0])
    base: str = Field(description="The base model.", examples=["starter"])
    priority: Priority = Field(
        description="Among the tenant's own; what a trigger begins is low.", examples=["normal"]
    )
    created_at: datetime = Field(description="When it was asked for.", examples=[_TIME])
    finished_at: datetime | None = Field(description="When it ended; null: it has not.", examples=[None])
    error: RunFailureOut | None = Field(description="Why it failed; null: it has not.")
    model_version_id: UUID | None = Field(description="What it made, once it succeeded.", examples=[_MODEL])
    trigger: RunTriggerOut | None = Field(
        description="The trigger that began it, and why; null: somebody asked for it."
    )
    progress: ProgressOut = Field(description="How far it is.")
    stages: list[StageOut] = Field(description="Its stages, in their order.")

    @classmethod
    def of(cls, view: View) -> "RunOut":
        run, now = view.run, utc_now()
        stages = [StageOut.of(job, view.newest.get(job.id), now) for job in view.jobs]
        return cls(
            id=run.id,
            state=run.state,
            schema_id=view.version.schema_id,
            schema_version=view.version.number,
            dataset_id=run.dataset_id,
            preset=None if run.preset is None else Preset(run.preset),
            seed=run.seed,
            base=run.base,
            priority=Priority.of(max((job.priority for job in view.jobs), default=Priority.normal.rank)),
            created_at=run.created_at,
            finished_at=run.finished_at,
            error=None if run.error is None else RunFailureOut(stage=run.error["stage"], **_three(run.error)),
            model_version_id=run.model_version_id,
            trigger=None if run.trigger_record is None else RunTriggerOut(**run.trigger_record),
            progress=_progress(stages),
            stages=stages,
        )


class ModelStageOut(ResponseBody):
    kind: StageKind = Field(description="Which stage.", examples=["rl"])
    sha256: str = Field(description="Of what it made: traces, or an adapter.", examples=["9f" * 32])
    metrics: dict[str, Any] = Field(description="Those of its end.", examples=[_METRICS])
    seconds: float = Field(description="How long it took.", examples=[212.4])


class ModelOut(ResponseBody):
    id: UUID = Field(description="The model version's id.", examples=[_MODEL])
    run_id: UUID = Field(description="The run that made it.", examples=[_RUN])
    schema_id: UUID = Field(description="The schema that it was trained for.", examples=[_SCHEMA])
    schema_version: int = Field(description="Number of the version of it.", examples=[2])
    base: str = Field(description="The base model.", examples=["starter"])
    base_sha256: str = Field(description="Of the base model's files.", examples=["1c" * 32])
    adapter_sha256: str = Field(description="Of the adapter that is served.", examples=["9f" * 32])
    stages: list[ModelStageOut] = Field(description="What each stage made, in their order.")
    answer_tokens: int | None = Field(
        description="The longest answer that it was trained for; null: it is older than this number.",
        examples=[160],
    )
    created_at: datetime = Field(description="When it was made.", examples=[_TIME])

    @classmethod
    def of(cls, found: Model) -> "ModelOut":
        row = found.row
        return cls(
            id=row.id,
            run_id=row.run_id,
            schema_id=found.version.schema_id,
            schema_version=found.version.number,
            base=found.run.base,
            base_sha256=row.base_sha256,
            adapter_sha256=row.adapter_sha256,
            stages=[ModelStageOut.model_validate(stage) for stage in row.stages],
            answer_tokens=row.answer_tokens,
            created_at=row.created_at,
        )


def _three(error: dict[str, Any]) -> dict[str, Any]:
    return {name: error[name] for name in ("code", "message")} | {"details": error.get("details", [])}


def _metrics(newest: JobEvent | None) -> dict[str, Any] | None:
    if newest is None:
        return None
    found: dict[str, Any] | None = newest.event.get("metrics", newest.event.get("result", {}).get("metrics"))
    return found


def _eta_s(job: Job, newest: JobEvent | None, now: datetime) -> float | None:
    """As the worker reckoned with its last metrics, less what has passed since; not from an earlier attempt's."""
    if job.state is not JobState.running or newest is None or job.started_at is None:
        return None
    told = newest.event.get("eta_s")
    if told is None or newest.at < job.started_at:
        return None
    passed_s = (now - newest.at).total_seconds()
    return round(max(0.0, float(told) - passed_s), 1)


def _progress(stages: list[StageOut]) -> ProgressOut:
    if not stages:
        return ProgressOut(stage="traces", done=None, total=None, message=None, eta_s=None)
    open_ones = [stage for stage in stages if stage.state in _OPEN]
    begun = [stage for stage in stages if stage.started_at is not None]
    shown = next(iter(open_ones), None) or (begun or stages)[-1]
    return ProgressOut(
        stage=shown.kind, done=shown.done, total=shown.total, message=shown.message, eta_s=shown.eta_s
    )


_OPEN = (JobState.running, JobState.queued, JobState.blocked)
