"""What tenants used, counted in memory and added to their days every few seconds and when the process ends.

A row written for each answer would make every answer wait for the database. A process that is killed loses the count
of its last seconds, in the tenant's favour.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import NamedTuple
from uuid import UUID

import structlog

from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.writing_behind import flushed_to_the_end
from app.usage import repository
from app.usage.repository import Use

log = structlog.get_logger()
EVERY_S = 2.0


class _Day(NamedTuple):
    tenant_id: UUID
    day: date


class Meter:
    def __init__(self, database: Database):
        self._database = database
        self._requests = Counter[_Day]()
        self._prompt = Counter[_Day]()
        self._completion = Counter[_Day]()
        self._writing = asyncio.Lock()

    def count(self, scope: TenantScope, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """One conversation. Tokens are None where the model server did not count them: nothing is added then."""
        day = _Day(scope.tenant_id, utc_now().date())
        self._requests[day] += 1
        self._prompt[day] += prompt_tokens or 0
        self._completion[day] += completion_tokens or 0

    async def flush(self) -> None:
        """What cannot be stored stays counted, and the error is raised."""
        async with self._writing:
            taken = self._requests, self._prompt, self._completion
            if not taken[0]:
                return
            self._requests, self._prompt, self._completion = Counter(), Counter(), Counter()
            uses = [Use(*day, taken[0][day], taken[1][day], taken[2][day]) for day in taken[0]]
            try:
                async with transaction(self._database) as session:
                    await repository.add(session, uses)
            except BaseException:
                self._requests += taken[0]
                self._prompt += taken[1]
                self._completion += taken[2]
                raise


@asynccontextmanager
async def metering(database: Database) -> AsyncIterator[Meter]:
    """At the end what is left is stored; where that fails it is logged, for it is lost."""
    meter = Meter(database)
    async with flushed_to_the_end(EVERY_S, meter.flush, "usage_not_stored", lost="usage_lost"):
        yield meter
