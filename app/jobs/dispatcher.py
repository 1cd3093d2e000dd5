"""Turns rows into messages, and silence into another try. Several may run at once: a claim is exclusive.

The row is the outbox. A message that is lost is sent again, one that comes twice finds its job taken, and with Redis
away the rows simply wait.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import structlog

from app.errors import Unavailable
from app.infra import metrics, outage
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.db.version import check_version
from app.infra.tables.jobs import JobKind
from app.jobs import maintenance, repository, service
from app.jobs.handlers import QUEUE_OF, SWEEPS, Queue, Sweep
from app.jobs.lease import Ticket
from app.settings import Settings

log = structlog.get_logger()
EVERY_S = 1.0
AT_ONCE = 200


class BrokerAway(Unavailable):
    """Redis took nothing, and said so at once."""

    code = "broker_away"


class Notifier(NamedTuple):
    """ring: tell the workers of a queue about a job. depth: how many messages wait there. Both raise BrokerAway."""

    ring: Callable[[Queue, UUID], None]
    depth: Callable[[Queue], int]


class Dispatcher:
    def __init__(self, database: Database, notifier: Notifier, settings: Settings):
        self.database = database
        self.notifier = notifier
        self.settings = settings
        self._away: set[str] = set()  # what has been reported away and has not come back
        self._stuck: set[Ticket] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """A sweep waits for others than the database, so messages do not wait for it."""
        sweeping = [
            asyncio.create_task(_every(sweep.every_s, stop, partial(self.sweep, name, sweep)))
            for name, sweep in SWEEPS.items()
        ]
        try:
            await _every(EVERY_S, stop, self.round)
        finally:
            for task in sweeping:
                task.cancel()
            await asyncio.gather(*sweeping, return_exceptions=True)

    async def sweep(self, name: str, sweep: Sweep) -> None:
        await self._try(f"sweep {name}", sweep.work(self.database, self.settings))

    async def round(self) -> None:
        """One step is not kept from its turn by the trouble of another."""
        if not await self._try("database version", self._check_version()):
            return
        await self._try("leases", self._expire())
        await self._try("messages", self._publish())
        metrics.DISPATCH_ROUNDS.inc()

    async def _check_version(self) -> None:
        """It may have been migrated since this process started."""
        await check_version(self.database)

    async def _try(self, step: str, work: Coroutine[Any, Any, None]) -> bool:
        try:
            await work
        except Exception as error:  # whatever it is, the rows are still there in a second
            if step not in self._away:
                expected = outage.passes(error)
                log.warning(
                    "dispatch_interrupted",
                    step=step,
                    error=repr(error),
                    exc_info=None if expected else error,
                )
            self._away.add(step)
            metrics.DISPATCH_INTERRUPTED.labels(step).inc()
            return False
        if step in self._away:
            log.info("dispatch_resumed", step=step)
        self._away.discard(step)
        return True

    async def _expire(self) -> None:
        async with transaction(self.database, read_only=True) as session:
            tickets = await repository.expired(session, AT_ONCE)
        for ticket in tickets:
            await self._expire_one(ticket)

    async def _expire_one(self, ticket: Ticket) -> None:
        """A transaction each: what goes wrong at the end of one job is not a matter of the others."""
        try:
            async with transaction(self.database, ticket.scope) as session:
                job = await service.expire(session, ticket)
        except Exception as error:
            if outage.passes(error):
                raise
            if ticket not in self._stuck:
                log.exception("job_not_requeued", job_id=str(ticket.job_id))
            self._stuck.add(ticket)
        else:
            if job is not None:
                metrics.LEASES_LOST.labels(job.kind.value).inc()
                log.warning("job_lease_expired", job_id=str(job.id), losses=job.losses, state=job.state.value)

    async def _publish(self) -> None:
        async with transaction(self.database, read_only=True) as session:
            if await maintenance.is_on(session):
                return
            due = await repository.due(session, self.settings.job_republish_s, AT_ONCE)
            waiting = await repository.waiting(session) if any(one.again for one in due) else {}
        published: list[UUID] = []
        try:
            whole = await asyncio.to_thread(self._whole, waiting)
            for one in due:
                if not (one.again and QUEUE_OF[one.kind] in whole):
                    await asyncio.to_thread(self.notifier.ring, QUEUE_OF[one.kind], one.job_id)
                published.append(one.job_id)
        finally:
            if published:
                async with transaction(self.database) as session:
                    await repository.mark_published(session, published)

    def _whole(self, waiting: dict[JobKind, int]) -> set[Queue]:
        """Queues with a message for every waiting job, so that none was lost: those are not sent again.

        Otherwise a queue behind a day of training would grow by a message a job every half minute.
        """
        rows = Counter[Queue]()
        for kind, count in waiting.items():
            rows[QUEUE_OF[kind]] += count
        return {queue for queue, count in rows.items() if self.notifier.depth(queue) >= count}


async def _every(pause_s: float, stop: asyncio.Event, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    while not stop.is_set():
        await work()
        try:
            await asyncio.wait_for(stop.wait(), pause_s)
        except TimeoutError:
            continue
