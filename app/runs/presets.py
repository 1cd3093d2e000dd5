"""How much work a job is: a preset (the few fields that differ from the stages' defaults) and what `--set` changes."""

import tomllib
from collections.abc import Sequence
from enum import StrEnum
from importlib.resources import files
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import InputError
from evaluation.contract.seeds import MAX_SEED
from training.config import Distill, Rl, Sft, Traces

_WHOLE_MODEL = (
    "`full` makes a model of its own, and one vLLM serves many adapters here; choose `lora`, or train it by "
    "`python -m training run MANIFEST` and serve the folder model/ that it leaves"
)


def makes_a_whole_model(stage: BaseModel) -> bool:
    return getattr(stage, "tuning", None) == "full"


class Preset(StrEnum):
    smoke = "smoke"  # does everything once, learns little
    demo = "demo"  # everything once, on a shop that ships
    cpu = "cpu"  # an hour and a half on two old cores at most, half an hour on new ones
    standard = "standard"  # twice that
    gpu = "gpu"


class Benchmark(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    max_items: int = Field(
        default=600, ge=20, le=100_000, description="answers asked of each stage, over all perturbations"
    )
    seed: int = Field(default=0, ge=0, le=MAX_SEED)


class Plan(BaseModel):
    """The stages in their order, each with its settings, and the evaluation that follows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    traces: Traces
    sft: Sft
    distill: Distill
    rl: Rl
    benchmark: Benchmark

    @model_validator(mode="after")
    def _can_be_served(self) -> "Plan":
        whole = [stage.kind for stage in self.stages if makes_a_whole_model(stage)]
        if whole:
            raise ValueError(f"{whole[0]}.tuning: {_WHOLE_MODEL}")
        return self

    @property
    def stages(self) -> tuple[Traces | Sft | Distill | Rl, ...]:
        return (self.traces, self.sft, self.distill, self.rl)


class Setting(NamedTuple):
    """path: stage.field. origin: `default`, `preset NAME` or `--set`."""

    path: str
    value: Any
    origin: str


def plan(preset: Preset, assignments: Sequence[str] = ()) -> Plan:
    """assignments: `stage.field=value`, the value as TOML or as plain text. Raises: InputError."""
    return _planned(_preset_tables(preset), _assigned(assignments))


def explain(preset: Preset, assignments: Sequence[str] = ()) -> list[Setting]:
    """Every setting of the plan, and where its value comes from. Raises: InputError."""
    chosen, given = _preset_tables(preset), _assigned(assignments)
    origins = {path: f"preset {preset}" for path, _ in _leaves(chosen)} | {
        path: "--set" for path, _ in _leaves(given)
    }
    found = _leaves(_planned(chosen, given).model_dump(mode="json"))
    return [Setting(path, value, origins.get(path, "default")) for path, value in found]


def _preset_tables(preset: Preset) -> dict[str, Any]:
    return tomllib.loads((files("app.runs") / "presets" / f"{preset}.toml").read_text())


def _assigned(assignments: Sequence[str]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for assignment in assignments:
        _assign(tables, assignment)
    return tables


def _planned(chosen: dict[str, Any], given: dict[str, Any]) -> Plan:
    try:
        return Plan.model_validate(merged({name: {} for name in Plan.model_fields} | chosen, given))
    except ValidationError as error:
        problems = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise InputError("these settings cannot be used", problems) from None


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Tables within tables too."""
    both = {
        k: merged(under[k], v)
        for k, v in over.items()
        if isinstance(v, dict) and isinstance(under.get(k), dict)
    }
    return under | over | both


def _leaves(table: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in table.items():
        path = f"{before}{name}"
        found += _leaves(value, f"{path}.") if isinstance(value, dict) else [(path, value)]
    return found


def _assign(tables: dict[str, Any], assignment: str) -> None:
    path, equals, text = assignment.partition("=")
    *parents, field = path.strip().split(".")
    if not equals or not parents or not all((*parents, field)):
        raise InputError(f"--set {assignment!r} is not of the form stage.field=value, such as sft.epochs=3")
    table = tables
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {assignment!r}: {parent!r} has no fields")
    table[field] = _value(text.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
