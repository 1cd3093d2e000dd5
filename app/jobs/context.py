"""What a handler has at hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.files.door import FileDoor
from app.infra.files.repository import MadeFrom, NewFile
from app.infra.storage import Storage
from app.infra.tables.files import FileKind
from app.infra.tables.jobs import Job, JobKind
from app.jobs import service
from app.jobs.heartbeat import Heartbeat
from app.jobs.lease import Event, Ticket
from app.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")


class JobContext(NamedTuple):
    """job: the row as it was claimed. workdir: of this attempt alone, empty, removed when it has ended.

    log: where child processes write; kept in the storage under `log_key` when the attempt has ended. files: through
    which whatever it makes comes into the storage.
    """

    database: Database
    storage: Storage
    files: FileDoor
    settings: Settings
    job: Job
    ticket: Ticket
    workdir: Path
    log: Path
    heartbeat: Heartbeat

    @property
    def scope(self) -> TenantScope:
        return self.ticket.scope

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """From any thread, as often as you like: the newest is written about once a second."""
        self.heartbeat.progress(done, total, message)

    def event(self, event: Event) -> None:
        """Append to the job's events: any thread, all of them are written, in order."""
        self.heartbeat.event(event)

    def cancelled(self) -> bool:
        """Whether to end now: somebody cancelled the job, or it is no longer ours. From any thread, at no cost.

        A coroutine need not ask: it gets asyncio.CancelledError at its next await.
        """
        return self.heartbeat.stop is not None

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """Writes only while the job is ours. What is written so stays if a later attempt does the work again.

        Keep it short: the heart waits for it, and on SQLite everybody who writes does. Raises: LeaseLost.
        """
        async with transaction(self.database, self.scope) as session:
            await service.hold(session, self.ticket)
            yield session

    async def save_checkpoint(self, uri: str) -> None:
        """Where the next attempt can go on, as `job.checkpoint_uri`. Raises: LeaseLost."""
        async with transaction(self.database, self.scope) as session:
            await service.save_checkpoint(session, self.ticket, uri)

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what blocks. Returns or raises only once it has ended, so it must ask `cancelled` now and then."""
        work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.gather(work, return_exceptions=True)
            raise


def log_key(ticket: Ticket) -> str:
    """In the storage; `epoch` tells the attempts of a job apart."""
    return f"jobs/{ticket.job_id}/{ticket.epoch}.log"


def log_file(job: Job, ticket: Ticket) -> NewFile:
    """What a job's processes printed may repeat what its conversations say."""
    of_dataset = job.subject_id if job.kind is JobKind.validate_dataset else None
    of_gate = job.subject_id if job.kind is JobKind.gate else None
    return NewFile(log_key(ticket), FileKind.log, MadeFrom(of_dataset, job.run_id, of_gate))
