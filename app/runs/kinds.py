"""The stages of a run, in their order."""

from typing import Literal, TypeAlias

from app.models.jobs import JobKind
from app.models.runs import RunState

StageKind: TypeAlias = Literal["traces", "sft", "distill", "rl"]
STAGES = (JobKind.traces, JobKind.sft, JobKind.distill, JobKind.rl)
ENDED = (RunState.succeeded, RunState.failed, RunState.cancelled)
