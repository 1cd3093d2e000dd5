"""How a job can end, and who else is told of it within the same transaction."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.tables.jobs import Job, JobKind
from app.jobs.lease import storable

Apply: TypeAlias = Callable[[AsyncSession], Awaitable[None]]
OnEnd: TypeAlias = Callable[[AsyncSession, Job], Awaitable[None]]


class JobError(NamedTuple):
    """details: further lines, for the reader of the job."""

    code: str
    message: str
    details: tuple[str, ...] = ()

    @property
    def stored(self) -> dict[str, Any]:
        body: dict[str, Any] = storable(self._asdict())
        return body


class JobOutcome(NamedTuple):
    """result: goes into the job's last event. apply: writes what the job has made, in the transaction that ends it.

    So what `apply` writes is there once, or not at all: it does not run where the lease was lost or a cancel came
    first. Where the database went away meanwhile, it runs again in a new transaction.
    """

    result: Mapping[str, Any] = MappingProxyType({})
    apply: Apply | None = None


class Succeeded(NamedTuple):
    outcome: JobOutcome


class Failed(NamedTuple):
    """final: trying again cannot help, so the attempts that remain are not used."""

    error: JobError
    final: bool = False


class Cancelled(NamedTuple):
    pass


class Released(NamedTuple):
    """Handed back by a worker that is shutting down: nobody's fault, and somebody else may go on at once."""


class Postponed(NamedTuple):
    """Something that the task needs is away, or a disk is full. However long that lasts, it uses up no attempt.

    most_s: before it is tried again; the first times sooner, as most of what is away is back in a moment.
    """

    error: JobError
    most_s: float


class Lost(NamedTuple):
    """The lease has expired, or what answered the task ended under it: no fault of the task's, if it is not always so.

    error: what is said where it happens too often; None: that its worker was lost.
    """

    error: JobError | None = None


End: TypeAlias = Succeeded | Failed | Cancelled | Released | Postponed | Lost

# Told of every job of its kind that failed for good or was cancelled, whoever ended it: a worker, the dispatcher or
# the API. (A success tells through JobOutcome.apply.) When a job's end cancels later ones of its run, its own call
# comes first.
ON_END: dict[JobKind, OnEnd] = {}
