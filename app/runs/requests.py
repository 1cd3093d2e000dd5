"""What is asked of a run: a preset, with stages put in its place, checked against what this installation allows."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias
from uuid import UUID

from app.errors import InvalidRequest, Problem
from app.jobs.priority import Priority
from app.runs import teachers
from app.runs.presets import Plan, Preset, makes_a_whole_model, plan
from app.settings import Settings
from training.config import Distill, Rl, Sft, Traces

AnyStage: TypeAlias = Traces | Sft | Distill | Rl
# Files of this machine or of another tenant, and what whoever runs it decides.
_NOT_ASKED_FOR = {
    "teacher_model",
    "prompts",
    "text",
    "files",
    "demonstrations",
    "contexts",
    "sampler",
    "sampler_memory",
}


class BaseNotServed(InvalidRequest):
    """Adapters of another base could not be served here; every replica serves one base."""

    code = "base_not_served"


class DatasetNotEnough(InvalidRequest):
    """There is too little in the dataset to train and to judge a classifier; `problems` says what is missing."""

    code = "dataset_not_enough"


class RunRequest(NamedTuple):
    """schema_version: a number; None: the current one. needs_bytes: of memory, what its stages need of a worker; None:
    what is known of earlier runs. priority: among the tenant's own jobs."""

    schema_id: UUID
    schema_version: int | None
    dataset_id: UUID
    preset: Preset
    plan: Plan
    seed: int
    base: str
    needs_bytes: int | None = None
    priority: Priority = Priority.normal


def planned(preset: Preset, stages: Sequence[AnyStage]) -> Plan:
    """A stage that is given takes the place of the preset's as a whole. Raises: InvalidRequest."""
    twice = sorted(kind for kind, count in Counter(stage.kind for stage in stages).items() if count > 1)
    if twice:
        problem = Problem("body.stages", f"has more than one stage of the kind {', '.join(twice)}")
        raise InvalidRequest(f"{problem.where} {problem.message}", problems=[problem])
    return plan(preset).model_copy(update={stage.kind: stage for stage in stages})


def within(stage: AnyStage, most_s: float) -> AnyStage:
    """The stage as it is run: it ends by itself, also where nobody said when."""
    return stage.model_copy(update={"max_seconds": min(stage.max_seconds or most_s, most_s)})


def check(order: RunRequest, settings: Settings) -> None:
    """Raises: BaseNotServed, InvalidRequest."""
    if order.base != settings.base:
        problem = Problem("body.base", f"is not {settings.base!r}, which is what is served here")
        raise BaseNotServed(f"{problem.where} {problem.message}", problems=[problem])
    problems = [problem for stage in order.plan.stages for problem in _problems(stage, settings)]
    if problems:
        first = problems[0]
        raise InvalidRequest(f"{first.where} {first.message}", problems=problems)


def _problems(stage: AnyStage, settings: Settings) -> Iterator[Problem]:
    where = f"stage {stage.kind}"
    if isinstance(stage, Traces):
        yield from teachers.problems(stage, settings, where)
    elif makes_a_whole_model(stage):
        yield Problem(f"{where}, tuning", "is `full`, and what serves here takes adapters; choose `lora`")
    if stage.max_seconds is not None and stage.max_seconds > settings.stage_max_s:
        most = settings.stage_max_s
        yield Problem(f"{where}, max_seconds", f"is {stage.max_seconds:g}; a stage may take {most:g} here")
    for name in sorted(_NOT_ASKED_FOR & type(stage).model_fields.keys()):
        if getattr(stage, name) != type(stage).model_fields[name].default:
            yield Problem(f"{where}, {name}", "cannot be chosen here; leave it out")
    # Distillation and RL go on with its adapter, and make none of their own.
    if isinstance(stage, Sft) and stage.lora.rank > settings.vllm_max_lora_rank:
        most = settings.vllm_max_lora_rank
        yield Problem(f"{where}, lora.rank", f"is {stage.lora.rank}; what serves here takes {most} at most")
