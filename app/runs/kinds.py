"""The stages of a run, in their order."""

from typing import Literal, TypeAlias

from app.infra.tables.jobs import JobKind
from app.infra.tables.runs import RunState
from training import protocol

StageKind: TypeAlias = Literal["traces", "sft", "distill", "rl"]
STAGES = tuple(JobKind(kind) for kind in protocol.STAGES)
ENDED = (RunState.succeeded, RunState.failed, RunState.cancelled)
