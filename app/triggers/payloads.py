from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, Field, model_validator

from app.http.payload import Name, RequestBody, ResponseBody
from app.infra.tables.triggers import Trigger, TriggerKind, TriggerOutcome
from app.runs.presets import Preset
from app.triggers.conditions import Brake, Limits
from app.triggers.rules import Rule
from app.triggers.simulation import Simulated
from evaluation.contract.seeds import MAX_SEED

TRIGGER_ID = "0d7c3f52-8b1e-4a6f-9c24-5e8f7a6b1d39"
_SCHEMA = "3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"
_DATASET = "5a0d1c9e-7f4b-4c1d-9a53-3f2f6a1b7c20"
_RUN = "8a4e7f0c-2f7d-4d38-9d0f-0f6c3a1b5e21"
_TIME = "2026-01-02T10:30:00Z"
_RULE: dict[str, Any] = {"kind": "drift", "window_h": 168, "min_answers": 200, "threshold": 0.2}
_REASON = (
    "the population stability index of the last 2310 answers against the first 1902 is 0.314; 0.2 starts a run, if it "
    "is above the 0.018 that chance makes of so few"
)
_FIGURES: dict[str, Any] = {"stability_index": 0.314, "by_chance": 0.018, "answers": 2310}
_MAX_H = 8760
_COOL_DOWN = "Hours after a start in which it does not start again."
_WINDOW = "Of how many hours the budget is."
_RUNS = "How many runs it may start within them."
_GPU_S = "Seconds of workers that those runs may have used before another starts; null: as many as the tenant's share."
_PAUSED = "It is not checked, and does not start."


class BudgetIn(RequestBody):
    window_h: int = Field(168, description=_WINDOW, ge=1, le=_MAX_H, examples=[168])
    runs: int = Field(2, description=_RUNS, ge=1, le=1000, examples=[2])
    gpu_s: float | None = Field(None, description=_GPU_S, gt=0, le=1e9, examples=[86_400])


class TriggerIn(RequestBody):
    name: Name = Field(description="What it is called; unique.", examples=["weekly drift"])
    schema_id: UUID = Field(
        description="The schema to train for: its current version, whichever that is then.",
        examples=[_SCHEMA],
    )
    dataset_id: UUID = Field(
        description="The dataset to learn from, as it is then; a dataset of this schema.", examples=[_DATASET]
    )
    rule: Rule = Field(description="What it waits for.", examples=[_RULE])
    preset: Preset = Field(
        Preset.standard, description="How much work the stages of a run are.", examples=["standard"]
    )
    seed: int = Field(0, description="Of everything random in a run.", examples=[0], ge=0, le=MAX_SEED)
    cool_down_h: int = Field(24, description=_COOL_DOWN, ge=1, le=_MAX_H, examples=[24])
    budget: BudgetIn = Field(default_factory=BudgetIn, description="How much it may start.")
    paused: bool = Field(False, description=_PAUSED, examples=[False])


class TriggerPatch(RequestBody):
    """Fields that are left out stay as they are."""

    name: Name = Field("trigger", description="What it is called; unique.", examples=["weekly drift"])
    rule: Rule | None = Field(None, description="What it waits for.", examples=[_RULE])
    preset: Preset = Field(Preset.standard, description="How much work a run is.", examples=["standard"])
    cool_down_h: int = Field(24, description=_COOL_DOWN, ge=1, le=_MAX_H, examples=[48])
    budget: BudgetIn = Field(default_factory=BudgetIn, description="How much it may start.")
    paused: bool = Field(False, description=_PAUSED, examples=[True])

    @model_validator(mode="after")
    def _has_a_rule(self) -> "TriggerPatch":
        if "rule" in self.model_fields_set and self.rule is None:
            raise ValueError("rule: cannot be null; pause the trigger, or delete it")
        return self


class BudgetOut(ResponseBody):
    window_h: int = Field(description=_WINDOW, examples=[168])
    runs: int = Field(description=_RUNS, examples=[2])
    gpu_s: float | None = Field(description=_GPU_S, examples=[86_400])


class TriggerOut(ResponseBody):
    id: UUID = Field(description="The trigger's id.", examples=[TRIGGER_ID])
    name: str = Field(description="What it is called.", examples=["weekly drift"])
    schema_id: UUID = Field(description="The schema that it trains for.", examples=[_SCHEMA])
    dataset_id: UUID = Field(description="The dataset that it learns from.", examples=[_DATASET])
    kind: TriggerKind = Field(description="Of its rule.", examples=["drift"])
    rule: dict[str, Any] = Field(description="What it waits for.", examples=[_RULE])
    preset: Preset = Field(description="How much work a run is.", examples=["standard"])
    seed: int = Field(description="Of everything random in a run.", examples=[0])
    cool_down_h: int = Field(description=_COOL_DOWN, examples=[24])
    budget: BudgetOut = Field(description="How much it may start.")
    paused: bool = Field(description=_PAUSED, examples=[False])
    checked_at: datetime | None = Field(
        description="When it was checked last; null: never. One of the kind `by_hand` never is.",
        examples=[_TIME],
    )
    outcome: TriggerOutcome | None = Field(
        description="What came of that. `held_back`: it was met and did not start; `refused`: no run could be begun.",
        examples=["not_met"],
    )
    reason: str | None = Field(description="Why, with the figures that decided.", examples=[_REASON])
    figures: dict[str, Any] | None = Field(description="The same for programs.", examples=[_FIGURES])
    held_at: datetime | None = Field(
        description="When it was met last and did not start; null: never.", examples=[None]
    )
    held_reason: str | None = Field(
        description="Why it did not start then.", examples=["it cools down until 2026-01-03 10:30Z"]
    )
    started_at: datetime | None = Field(description="When it started last; null: never.", examples=[None])
    run_id: UUID | None = Field(description="The run that it started last.", examples=[_RUN])
    created_at: datetime = Field(description="When it was made.", examples=[_TIME])

    @classmethod
    def of(cls, row: Trigger) -> "TriggerOut":
        budget = BudgetOut(window_h=row.budget_window_h, runs=row.budget_runs, gpu_s=row.budget_gpu_s)
        own = {name: getattr(row, name) for name in cls.model_fields if name != "budget"}
        return cls(**own | {"budget": budget})


class SimulationIn(RequestBody):
    """A trigger that need not be there, and the time that is replayed: what is kept of the tenant's own."""

    schema_id: UUID = Field(description="The schema.", examples=[_SCHEMA])
    dataset_id: UUID = Field(description="The dataset that its runs would learn from.", examples=[_DATASET])
    rule: Rule = Field(description="What it waits for.", examples=[_RULE])
    cool_down_h: int = Field(24, description=_COOL_DOWN, ge=1, le=_MAX_H, examples=[24])
    budget: BudgetIn = Field(default_factory=BudgetIn, description="How much it may start.")
    first: AwareDatetime | None = Field(
        None, description="From when on; by default from the first that is kept.", examples=[_TIME]
    )
    last: AwareDatetime | None = Field(None, description="Until when; by default now.", examples=[_TIME])
    trigger_id: UUID | None = Field(
        None,
        description="A trigger in whose place it stands: the runs which that one started are left out of the past.",
        examples=[None],
    )


class SimulatedStartOut(ResponseBody):
    at: datetime = Field(description="When it would have started.", examples=[_TIME])
    reason: str = Field(description="Why, with the figures that decided.", examples=[_REASON])
    figures: dict[str, Any] = Field(description="The same for programs.", examples=[_FIGURES])


class SimulatedHoldOut(ResponseBody):
    brake: Brake = Field(description="What would have held it back.", examples=["cool_down"])
    checks: int = Field(description="How often.", examples=[17])
    first_at: datetime = Field(description="For the first time.", examples=[_TIME])
    reason: str = Field(
        description="Why, then.",
        examples=["it started at 2026-01-02 10:30Z and cools down until 2026-01-03 10:30Z"],
    )


class SimulationOut(ResponseBody):
    """Nothing of it was written."""

    first: datetime = Field(description="From when on it was replayed.", examples=[_TIME])
    last: datetime = Field(description="Until when.", examples=[_TIME])
    checks: int = Field(description="How often it would have been checked, once an hour.", examples=[720])
    met: int = Field(description="How often it was met.", examples=[18])
    starts: list[SimulatedStartOut] = Field(description="When runs would have begun.")
    held_back: list[SimulatedHoldOut] = Field(description="What would have kept others from beginning.")
    last_reason: str | None = Field(
        description="What was found at the last check, where it was not met.",
        examples=["88 answers in the last 168 h; 200 are compared at least"],
    )
    run_gpu_s: float = Field(
        description="How many seconds of workers each run was taken to use: the median of the schema's own runs, or an "
        "hour where there are none.",
        examples=[3600.0],
    )
    events: dict[str, int] = Field(
        description="What was replayed.", examples=[{"answers": 2310, "labels": 400, "runs": 1}]
    )

    @classmethod
    def of(cls, found: Simulated) -> "SimulationOut":
        return cls(
            first=found.first,
            last=found.last,
            checks=found.checks,
            met=found.met,
            starts=[SimulatedStartOut(**start._asdict()) for start in found.starts],
            held_back=[SimulatedHoldOut(**hold._asdict()) for hold in found.held_back],
            last_reason=found.last_reason,
            run_gpu_s=found.run_gpu_s,
            events=dict(found.events),
        )


def limits_of(cool_down_h: int, budget: BudgetIn) -> Limits:
    return Limits(cool_down_h, budget.window_h, budget.runs, budget.gpu_s)


def columns(given: TriggerIn | TriggerPatch, names: Sequence[str]) -> dict[str, Any]:
    """Of the row, for the fields that are named."""
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(given, name)
        if name == "budget":
            found |= {
                "budget_window_h": value.window_h,
                "budget_runs": value.runs,
                "budget_gpu_s": value.gpu_s,
            }
        elif name == "rule":
            found |= {"kind": value.kind, "rule": value.model_dump(mode="json")}
        else:
            found[name] = value.value if name == "preset" else value
    return found
