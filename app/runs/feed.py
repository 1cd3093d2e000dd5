"""What happens in runs, read once for each run that somebody listens to, however many listen."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple
from uuid import UUID

from app.http.turns import Streams
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.jobs import JobEvent
from app.infra.tables.runs import Run
from app.jobs import service as jobs
from app.runs import service
from app.runs.kinds import ENDED
from app.settings import Settings

POLL_S = 1.0  # as often as a worker writes
EVENTS_AT_ONCE = jobs.EVENTS_AT_ONCE


class NewEvents(NamedTuple):
    """rows: those after what was known, EVENTS_AT_ONCE at most. last: nothing will come after them."""

    run: Run
    kinds: dict[UUID, str]
    rows: list[JobEvent]
    last: bool


class RunFeed:
    """One run, while somebody listens. Its newest rows are kept for those who listen."""

    def __init__(self, database: Database, scope: TenantScope, run_id: UUID):
        self._database, self._scope, self._run_id = database, scope, run_id
        self._rows: deque[JobEvent] = deque()
        self._before = 0  # rows up to this one are in the database alone
        self._newest: NewEvents | None = None
        self._error: Exception | None = None
        self._was_read = asyncio.Event()
        self.listeners = 0

    async def read(self, after: int) -> NewEvents:
        """The state is read first: what ended the run had written its events by then."""
        async with transaction(self._database, self._scope, read_only=True) as session:
            run = await service.get(session, self._scope, self._run_id)
            kinds = {job.id: job.kind.value for job in await jobs.of_run(session, self._scope, self._run_id)}
            rows = await jobs.events_of_run(session, self._scope, self._run_id, after)
        return NewEvents(run, kinds, rows, run.state in ENDED and len(rows) < EVENTS_AT_ONCE)

    async def after(self, row_id: int) -> NewEvents:
        """What came after that row, as far as it is known. Raises: what reading raised."""
        while self._newest is None:
            await self.next_read(POLL_S)
        if row_id < self._before:
            return await self.read(row_id)  # a listener that is further back than the others
        return self._newest._replace(rows=[row for row in self._rows if row.id > row_id])

    async def next_read(self, within_s: float) -> None:
        """Until something new is known, or the time is up. Raises: what reading raised."""
        was_read = self._was_read
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await was_read.wait()
        if self._error is not None:
            raise self._error

    async def run(self, after: int) -> None:
        """after: where the first listener goes on, so that what is long past is not kept for it."""
        self._before = after
        try:
            while self._newest is None or not self._newest.last:
                found = await self.read(after)
                self._keep(found.rows)
                after = found.rows[-1].id if found.rows else after
                self._newest = found
                self._tell()
                if len(found.rows) < EVENTS_AT_ONCE:
                    await asyncio.sleep(POLL_S)
        except Exception as error:  # noqa: BLE001 (whoever listens gets it, and asks again)
            self._error = error
            self._tell()

    def _keep(self, rows: list[JobEvent]) -> None:
        self._rows.extend(rows)
        while len(self._rows) > EVENTS_AT_ONCE:
            self._before = self._rows.popleft().id

    def _tell(self) -> None:
        self._was_read.set()
        self._was_read = asyncio.Event()


class RunFeeds:
    """Those of this process."""

    def __init__(self, database: Database, settings: Settings):
        self._database = database
        self._places = Streams(settings.max_streams, settings.tenant_streams)
        self._feeds: dict[UUID, tuple[RunFeed, asyncio.Task[None]]] = {}

    def check(self, scope: TenantScope) -> None:
        """That the tenant may listen once more. Raises: ShareExceeded, Unavailable."""
        self._places.check(scope.tenant_id)

    @asynccontextmanager
    async def listening(self, scope: TenantScope, run_id: UUID, after: int) -> AsyncIterator[RunFeed]:
        """Raises: ShareExceeded, Unavailable."""
        async with self._places.place(scope.tenant_id):
            feed = self._feed(scope, run_id, after)
            feed.listeners += 1
            try:
                yield feed
            finally:
                feed.listeners -= 1
                if not feed.listeners:
                    self._end(run_id, feed)

    def _feed(self, scope: TenantScope, run_id: UUID, after: int) -> RunFeed:
        found = self._feeds.get(run_id)
        if found is None or found[1].done():
            feed = RunFeed(self._database, scope, run_id)
            found = self._feeds[run_id] = (feed, asyncio.create_task(feed.run(after)))
        return found[0]

    def _end(self, run_id: UUID, feed: RunFeed) -> None:
        found = self._feeds.get(run_id)
        if found is not None and found[0] is feed:
            del self._feeds[run_id]
            found[1].cancel()
