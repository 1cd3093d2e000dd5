"""The stages of a run, in their order."""

from app.infra.tables.jobs import JobKind
from app.infra.tables.runs import RunState
from training import protocol

STAGES = tuple(JobKind(kind) for kind in protocol.STAGES)
ENDED = (RunState.succeeded, RunState.failed, RunState.cancelled)
