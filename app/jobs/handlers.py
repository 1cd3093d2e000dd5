"""Who does the work of each kind of job, and in which queue it waits."""

from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias

from app.infra.db.engine import Database
from app.infra.tables.jobs import JobKind
from app.jobs.context import JobContext
from app.jobs.ends import ON_END, JobOutcome, OnEnd
from app.settings import Settings

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


def kinds_in(queue: Queue) -> tuple[JobKind, ...]:
    return tuple(kind for kind, own in QUEUE_OF.items() if own is queue)


HANDLERS: dict[JobKind, Handler] = {}

SweepWork: TypeAlias = Callable[[Database, Settings], Coroutine[Any, Any, None]]


class Sweep(NamedTuple):
    """Work that nobody asks for: it looks for what is to be done, in every tenant, and may run in two dispatchers."""

    work: SweepWork
    every_s: float


SWEEPS: dict[str, Sweep] = {}


def register(kind: JobKind, handler: Handler, on_end: OnEnd | None = None) -> None:
    """on_end: see `app.jobs.ends.ON_END`; every process that may end a job needs it, the API too."""
    HANDLERS[kind] = handler
    if on_end is not None:
        ON_END[kind] = on_end


def register_sweep(name: str, work: SweepWork, every_s: float = 1.0) -> None:
    """The dispatcher calls it `every_s` after it has ended, whatever other sweeps do meanwhile."""
    SWEEPS[name] = Sweep(work, every_s)
