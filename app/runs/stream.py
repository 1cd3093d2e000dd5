"""A run's events as server-sent events: those there are, then each as it comes, until the run has ended."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from uuid import UUID

from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.jobs import JobEvent
from app.infra.tables.runs import Run
from app.jobs import service as jobs
from app.jobs.service import EVENTS_AT_ONCE
from app.runs import service
from app.runs.kinds import ENDED
from evaluation.inference import event_stream

POLL_S = 1.0  # as often as a worker writes
HEARTBEAT_S = (
    15.0  # proxies cut a connection that is silent for a minute; and a listener that went away shows itself
)


class _Look(NamedTuple):
    run: Run
    kinds: dict[UUID, str]
    rows: list[JobEvent]

    @property
    def complete(self) -> bool:
        """Nothing will come after these rows."""
        return self.run.state in ENDED and len(self.rows) < EVENTS_AT_ONCE


async def events(database: Database, scope: TenantScope, run_id: UUID, after: int) -> AsyncIterator[bytes]:
    """after: id of the last event that the listener has. Holds no connection to the database while it waits."""
    yield event_stream.comment("events of a run")  # so that the listener has an answer at once
    sent_at = time.monotonic()
    while True:
        look = await _look(database, scope, run_id, after)
        for row in look.rows:
            yield _event(row, look.kinds.get(row.job_id))
            after, sent_at = row.id, time.monotonic()
        if look.complete:
            yield _end(look.run)
            return
        if len(look.rows) == EVENTS_AT_ONCE:
            continue
        if time.monotonic() > sent_at + HEARTBEAT_S:
            yield event_stream.comment("still there")
            sent_at = time.monotonic()
        await asyncio.sleep(POLL_S)


async def _look(database: Database, scope: TenantScope, run_id: UUID, after: int) -> _Look:
    """The state is read first: what ended the run had written its events by then."""
    async with transaction(database, scope, read_only=True) as session:
        run = await service.get(session, scope, run_id)
        kinds = {job.id: job.kind.value for job in await jobs.of_run(session, scope, run_id)}
        rows = await jobs.events_of_run(session, scope, run_id, after)
    return _Look(run, kinds, rows)


def _event(row: JobEvent, kind: str | None) -> bytes:
    told = service.shown_event(row, kind)
    return event_stream.written(_json(told), str(told.get("event", "message")), str(row.id))


def _end(run: Run) -> bytes:
    """Without an id, so that a listener who asks again is told again."""
    model = None if run.model_version_id is None else str(run.model_version_id)
    told = {"state": run.state.value, "model_version_id": model, "error": run.error}
    return event_stream.written(_json(told), "end")


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False)
