"""Answers on their way into the database: held in memory for seconds, stripped of personal data, written by the batch.

Nobody who is answered waits for it. Where the store is away answers wait here; where there is no room left, here or in
the tenant's quota of bytes, or the store takes one of them not, that answer is not kept, and counted.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Final, NamedTuple
from uuid import UUID

import structlog

from app.answers import repository
from app.answers.repository import HowKept
from app.infra import metrics
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.outage import passes
from app.infra.periodic import periodically
from evaluation.formats.redaction import Redaction, Redactor

log = structlog.get_logger()
EVERY_S: Final = 2.0
MOST_ANSWERS: Final = 5_000
MOST_CHARS: Final = 32 << 20
_AT_ONCE: Final = 200
_LAST_TRY_S: Final = 5.0


class NewAnswer(NamedTuple):
    """row: columns of `KeptAnswer` but for `expires_at` and `size_bytes`, as people wrote it. chars: about how many."""

    tenant_id: UUID
    row: dict[str, Any]
    chars: int


class AnswerWriter:
    def __init__(self, database: Database):
        self._database = database
        self._waiting = deque[NewAnswer]()
        self._chars = 0
        self._keeps_none: dict[UUID, float] = {}  # until when a tenant need not be asked again
        self._writing = asyncio.Lock()

    def offer(self, answer: NewAnswer) -> None:
        """Never waits, and never fails."""
        if time.monotonic() < self._keeps_none.get(answer.tenant_id, 0.0):
            return
        if len(self._waiting) >= MOST_ANSWERS or self._chars + answer.chars > MOST_CHARS:
            metrics.ANSWERS_NOT_KEPT.labels("full").inc()
            return
        self._waiting.append(answer)
        self._chars += answer.chars

    async def flush(self) -> None:
        """What the store cannot take now stays here, and the error is raised."""
        async with self._writing:
            while self._waiting:
                batch = list(islice(self._waiting, _AT_ONCE))
                kept = await self._how_kept({one.tenant_id for one in batch})
                rows = await asyncio.to_thread(_storable, batch, kept)
                await self._write(rows)
                for one in batch:
                    self._waiting.popleft()
                    self._chars -= one.chars

    async def _how_kept(self, tenants: set[UUID]) -> dict[UUID, HowKept]:
        """Of those that keep answers."""
        async with transaction(self._database, read_only=True) as session:
            kept = await repository.how_kept(session, tenants)
        until = time.monotonic() + EVERY_S
        self._keeps_none = {one: at for one, at in self._keeps_none.items() if at > time.monotonic()}
        self._keeps_none |= dict.fromkeys(tenants - kept.keys(), until)
        return kept

    async def _write(self, rows: Sequence[dict[str, Any]]) -> None:
        """One that is refused takes no other with it. Raises: what says that the store is away."""
        try:
            await self._insert(rows)
        except Exception as error:
            if passes(error):
                raise
            for row in rows:
                await self._write_alone(row)

    async def _write_alone(self, row: dict[str, Any]) -> None:
        try:
            await self._insert([row])
        except Exception as error:
            if passes(error):
                raise
            _not_kept(row, error)

    async def _insert(self, rows: Sequence[dict[str, Any]]) -> None:
        """Of each tenant as many as its quota has room for."""
        tenants = defaultdict[UUID, list[dict[str, Any]]](list)
        for row in rows:
            tenants[row["tenant_id"]].append(row)
        if not tenants:
            return
        async with transaction(self._database) as session:
            kept = list[dict[str, Any]]()
            for tenant_id, own in sorted(tenants.items()):  # as everybody who locks several
                kept += own[: await repository.hold(session, TenantScope(tenant_id), own)]
            if kept:
                await repository.add(session, kept)
        metrics.ANSWERS_KEPT.inc(len(kept))
        if len(kept) < len(rows):
            metrics.ANSWERS_NOT_KEPT.labels("quota").inc(len(rows) - len(kept))

    async def close(self) -> None:
        """One last try. What then is still here is not kept."""
        try:
            async with asyncio.timeout(_LAST_TRY_S):
                await self.flush()
        except Exception as error:  # noqa: BLE001 (the process ends all the same)
            log.warning("answers_lost", answers=len(self._waiting), error=type(error).__name__)
            metrics.ANSWERS_NOT_KEPT.labels("ended").inc(len(self._waiting))


@asynccontextmanager
async def keeping(database: Database) -> AsyncIterator[AnswerWriter]:
    writer = AnswerWriter(database)
    try:
        async with periodically(EVERY_S, writer.flush, "answers_not_stored"):
            yield writer
    finally:
        await writer.close()


def _not_kept(row: dict[str, Any], error: Exception) -> None:
    metrics.ANSWERS_NOT_KEPT.labels("refused").inc()
    log.warning("answer_not_kept", answer_id=str(row["id"]), error=type(error).__name__)


def _storable(batch: Sequence[NewAnswer], kept: dict[UUID, HowKept]) -> list[dict[str, Any]]:
    """One that personal data cannot be taken out of, or that no text can hold, is not kept, and keeps no other from
    being stored."""
    rows = []
    for one in batch:
        if (how := kept.get(one.tenant_id)) is not None:
            try:
                clean = _without_personal_data(one.row, how.redaction)
                size = repository.size_of(clean)
            except Exception as error:  # noqa: BLE001 (else it would be tried again for ever, and all behind it wait)
                _not_kept(one.row, error)
            else:
                until = repository.until(one.row["created_at"], how.days)
                rows.append(clean | until | {"size_bytes": size})
    return rows


def _without_personal_data(row: dict[str, Any], redaction: Redaction) -> dict[str, Any]:
    """Wherever words of people stand; references stay as they are, for they are what is deleted by."""
    redactor = Redactor([one["text"] for one in row["messages"]], redaction)
    reasoning, quotes, extra = row["reasoning"], row["evidence"], row["extra"]
    return row | {
        "messages": [one | {"text": redactor.text(one["text"])} for one in row["messages"]],
        "reasoning": None if reasoning is None else redactor.text(reasoning),
        "evidence": None
        if quotes is None
        else [one | {"quote": redactor.text(one["quote"])} for one in quotes],
        "extra": None if extra is None else redactor.metadata(extra),
    }
