"""A run's events as server-sent events: those there are, then each as it comes, until the run has ended."""

import json
import time
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

from app.infra.db.scope import TenantScope
from app.infra.tables.jobs import JobEvent
from app.infra.tables.runs import Run
from app.runs import service
from app.runs.feed import RunFeeds
from evaluation.inference import event_stream

HEARTBEAT_S = (
    15.0  # proxies cut a connection that is silent for a minute; and a listener that went away shows itself
)


async def events(
    feeds: RunFeeds, scope: TenantScope, run_id: UUID, after: int
) -> AsyncGenerator[bytes, None]:
    """after: id of the last event that the listener has. Holds no connection to the database while it waits.

    Raises, before the first piece: ShareExceeded, Unavailable.
    """
    async with feeds.listening(scope, run_id, after) as feed:
        yield event_stream.comment("events of a run")  # so that the listener has an answer at once
        sent_at = time.monotonic()
        while True:
            new = await feed.after(after)
            for row in new.rows:
                yield _event(row, new.kinds.get(row.job_id))
                after, sent_at = row.id, time.monotonic()
            if new.last:
                yield _end(new.run)
                return
            if new.rows:
                continue
            if time.monotonic() > sent_at + HEARTBEAT_S:
                yield event_stream.comment("still there")
                sent_at = time.monotonic()
            await feed.next_read(HEARTBEAT_S)


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
