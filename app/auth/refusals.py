"""Keys that were refused: counted in memory, with a few as a sample, and recorded once a minute.

A row for each would let a stranger make us write as fast as they can send.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID

import structlog

from app.audit import service as audit
from app.audit.service import Act
from app.auth.service import RefusedKey
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.periodic import flushed_to_the_end

log = structlog.get_logger()
EVERY_S = 60.0
SAMPLE = 5
ACTION = "api_key.refused"


class _Refused(NamedTuple):
    """Of one owner since the last record: how many for which reason, and the first few prefixes."""

    reasons: Counter[str]
    prefixes: list[str]


class RefusedKeys:
    """Of this process. A key that is known is its tenant's matter, any other the platform's."""

    def __init__(self, database: Database):
        self._database = database
        self._by_owner: dict[UUID | None, _Refused] = {}

    def note(self, refused: RefusedKey) -> None:
        found = self._by_owner.setdefault(refused.tenant_id, _Refused(Counter(), []))
        found.reasons[refused.reason] += 1
        prefix = refused.prefix
        if prefix is not None and prefix not in found.prefixes and len(found.prefixes) < SAMPLE:
            found.prefixes.append(prefix)

    async def flush(self) -> None:
        """What cannot be stored stays counted, and the error is raised."""
        while self._by_owner:
            tenant_id, found = next(iter(self._by_owner.items()))
            detail = {
                "count": found.reasons.total(),
                "reasons": dict(found.reasons),
                "prefixes": found.prefixes,
            }
            before = found.reasons.copy()
            scope = None if tenant_id is None else TenantScope(tenant_id)
            async with transaction(self._database, scope) as session:
                audit.record(session, None, tenant_id, Act(ACTION, "api_keys", detail))
            found.reasons.subtract(before)  # others may have come meanwhile
            if found.reasons.total() == 0:
                del self._by_owner[tenant_id]


@asynccontextmanager
async def watching(database: Database) -> AsyncIterator[RefusedKeys]:
    refused = RefusedKeys(database)
    async with flushed_to_the_end(
        EVERY_S, refused.flush, "refused_keys_not_recorded", lost="refused_keys_lost"
    ):
        yield refused
