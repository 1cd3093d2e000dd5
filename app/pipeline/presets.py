"""How much work a job is: a preset (the few fields that differ from the stages' defaults) and what `--set` changes."""

import tomllib
from collections.abc import Sequence
from enum import StrEnum
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import InputError
from training.config import Distill, Rl, Sft, Traces


class Preset(StrEnum):
    smoke = "smoke"  # two minutes: does everything once, learns little
    demo = "demo"  # ten minutes on two cores
    standard = "standard"  # a quarter of an hour on two cores
    gpu = "gpu"


class Benchmark(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    max_items: int = Field(
        default=600, ge=20, description="answers asked of each stage, over all perturbations"
    )
    seed: int = 0


class Plan(BaseModel):
    """The stages in their order, each with its settings, and the examination that follows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    traces: Traces
    sft: Sft
    distill: Distill
    rl: Rl
    benchmark: Benchmark

    @property
    def stages(self) -> tuple[Traces | Sft | Distill | Rl, ...]:
        return (self.traces, self.sft, self.distill, self.rl)


def plan(preset: Preset, assignments: Sequence[str] = ()) -> Plan:
    """assignments: `stage.field=value`, the value as TOML or as plain text. Raises: InputError."""
    tables = tomllib.loads((files("app.pipeline") / "presets" / f"{preset}.toml").read_text())
    for assignment in assignments:
        _assign(tables, assignment)
    try:
        return Plan.model_validate({name: {} for name in Plan.model_fields} | tables)
    except ValidationError as error:
        problems = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
        raise InputError("these settings cannot be used", problems) from None


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
