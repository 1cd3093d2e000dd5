"""Keeps a job's lease alive, whatever its handler does, and hears there what the handler must be told.

A thread with connections of its own: a handler that blocks its event loop does not lose its job by that. What the
handler reports is kept in memory and written here, so that reporting costs it nothing.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from enum import StrEnum
from functools import partial
from typing import Any

import structlog

from app.infra import outage
from app.infra.db.engine import Database, open_database
from app.infra.db.session import transaction
from app.jobs import service
from app.jobs.lease import NOTHING, Event, LeaseLost, Note, Ticket, storable
from app.settings import Settings

log = structlog.get_logger()
TICK_S = 1.0  # how late progress, and a worker's shutting down, may be noticed


class Stop(StrEnum):
    """Why the handler must end before it is done."""

    cancel = "cancel"
    lost = "lost"
    shutdown = "shutdown"


class Heartbeat:
    """told: called once, in whichever thread learns it, when `stop` becomes known.

    claimed_at: on time.monotonic()'s clock, before the claim was sent.
    """

    def __init__(
        self, ticket: Ticket, settings: Settings, shutting_down: Callable[[], bool], claimed_at: float
    ):
        self.ticket = ticket
        self.settings = settings
        self.stop: Stop | None = None
        self.told: Callable[[], object] = lambda: None
        self._shutting_down = shutting_down
        self._guard = threading.Lock()
        self._progress: dict[str, Any] | None = None
        self._events: list[Event] = []
        self._closed = threading.Event()
        self._beaten_at = claimed_at  # when the last write that arrived was sent
        self._away = False

    def progress(self, done: int, total: int | None, message: str) -> None:
        newest = storable({"done": done, "total": total, "message": message})
        with self._guard:
            self._progress = newest

    def event(self, event: Event) -> None:
        happened = storable(event)
        with self._guard:
            self._events.append(happened)

    def take(self) -> Note:
        """What has not been written yet; the caller writes it."""
        with self._guard:
            note = Note(self._progress, tuple(self._events))
            self._progress, self._events = None, []
        return note

    def run(self) -> None:
        tick_s = min(TICK_S, self.settings.job_heartbeat_s)
        database = open_database(self.settings.database_url, self.settings.platform_database_url)
        with asyncio.Runner() as runner:
            while not self._closed.wait(tick_s):
                runner.run(self._tick(database))
            runner.run(database.close())

    def shut_down(self) -> None:
        """This process is told to end."""
        self._end(Stop.shutdown)

    def close(self) -> None:
        self._closed.set()

    async def _tick(self, database: Database) -> None:
        if self.stop is Stop.lost:
            return
        if self._shutting_down():
            self.shut_down()
        note = self.take()
        if note == NOTHING and time.monotonic() < self._beaten_at + self.settings.job_heartbeat_s:
            return
        try:
            await self._beat(database, note)
        except LeaseLost:
            self._end(Stop.lost)
        except Exception as error:  # noqa: BLE001 (whatever it is, the lease decides how long it may last)
            self._put_back(note)
            self._missed(error)

    async def _beat(self, database: Database, note: Note) -> None:
        sent_at = time.monotonic()
        # A connection that neither answers nor breaks must not use up the lease.
        async with asyncio.timeout(self.settings.job_lease_s / 4):
            async with transaction(database, self.ticket.scope) as session:
                job = await service.beat(session, self.ticket, self.settings.job_lease_s, note)
        self._beaten_at, self._away = sent_at, False
        if job.cancel_requested_at is not None:
            self._end(Stop.cancel)

    def _put_back(self, note: Note) -> None:
        with self._guard:
            self._progress = self._progress or note.progress
            self._events = [*note.events, *self._events]

    def _missed(self, error: Exception) -> None:
        """By our own clock, as the database's cannot be asked: it counts from before the lease was written."""
        if not self._away:
            log.warning(
                "heartbeat_missed", error=repr(error), exc_info=None if outage.passes(error) else error
            )
        self._away = True
        if time.monotonic() > self._beaten_at + self.settings.job_lease_s:
            self._end(Stop.lost)

    def _end(self, stop: Stop) -> None:
        """Lost comes before the others: then nothing may be written any more."""
        first = self.stop is None
        if first or stop is Stop.lost:
            self.stop = stop
        if first:
            log.info("job_stopping", reason=stop.value)
            self.told()


@contextmanager
def beating(heartbeat: Heartbeat) -> Iterator[Heartbeat]:
    run = partial(copy_context().run, heartbeat.run)  # so that its log lines name the job
    thread = threading.Thread(target=run, name=f"heart-{heartbeat.ticket.job_id}", daemon=True)
    thread.start()
    try:
        yield heartbeat
    finally:
        heartbeat.close()
        thread.join()
