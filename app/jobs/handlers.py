"""Who does the work of each kind of job, and in which queue it waits."""

from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, TypeAlias

from app.jobs.context import JobContext
from app.jobs.ends import ON_END, JobOutcome, OnEnd
from app.models.jobs import JobKind

Handler: TypeAlias = Callable[[JobContext], Coroutine[Any, Any, JobOutcome]]


class Queue(StrEnum):
    """gpu: one job at a time on each GPU, taken by workers that have one (or stand in for one)."""

    cpu = "cpu"
    gpu = "gpu"


QUEUE_OF = {
    JobKind.validate_dataset: Queue.cpu,
    JobKind.traces: Queue.gpu,
    JobKind.sft: Queue.gpu,
    JobKind.distill: Queue.gpu,
    JobKind.rl: Queue.gpu,
    JobKind.gate: Queue.gpu,
    JobKind.deploy: Queue.cpu,
}

HANDLERS: dict[JobKind, Handler] = {}


def register(kind: JobKind, handler: Handler, on_end: OnEnd | None = None) -> None:
    """on_end: see `app.jobs.ends.ON_END`; every process that may end a job needs it, the API too."""
    HANDLERS[kind] = handler
    if on_end is not None:
        ON_END[kind] = on_end
