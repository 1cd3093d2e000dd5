"""A chain of hashes over the audit trail: one for each tenant, and one for the platform.

One writer links what is committed, in the order in which it finds it, so that writing an event never waits for
another. A row that is changed, taken out or put in between no longer fits. That the end was cut off shows against the
heads of an earlier check, which somebody keeps elsewhere.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import NamedTuple

from app.audit import repository
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.tables.records import AuditEvent, AuditLink

AT_ONCE = 500
PLATFORM = "platform"
FIRST = "0" * 64  # before the first event of a chain
LATE_S = 60.0  # an event that is not linked after so long is told of


class ChainHead(NamedTuple):
    """The last link of a chain. number: how many events it has."""

    number: int
    sha256: str


class Verified(NamedTuple):
    """heads: by chain. waiting: events that nobody has linked yet. problems: where something does not fit."""

    heads: dict[str, ChainHead]
    waiting: int
    problems: list[str]


def chain_of(event: AuditEvent) -> str:
    return PLATFORM if event.tenant_id is None else str(event.tenant_id)


def digest(previous_sha256: str, event: AuditEvent) -> str:
    content = {
        "previous": previous_sha256,
        "id": str(event.id),
        "chain": chain_of(event),
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor_key_id": None if event.actor_key_id is None else str(event.actor_key_id),
        "action": event.action,
        "subject": event.subject,
        "detail": event.detail,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


async def link(database: Database) -> int:
    """Whatever is not linked yet, AT_ONCE at most. Returns how many those were."""
    async with transaction(database, read_only=True) as session:
        if not await repository.unlinked(session, 1):
            return 0
    async with transaction(database) as session:
        await repository.lock_chains(session)
        events = await repository.unlinked(session, AT_ONCE)
        heads = await repository.heads(session, {chain_of(event) for event in events})
        for event in events:
            chain = chain_of(event)
            last = heads.get(chain)
            number, previous = (0, FIRST) if last is None else (last.number, last.sha256)
            made = AuditLink(
                id=event.id,
                tenant_id=event.tenant_id,
                chain=chain,
                number=number + 1,
                previous_sha256=previous,
                sha256=digest(previous, event),
            )
            session.add(made)
            heads[chain] = made
        return len(events)


async def verify(database: Database, earlier: Mapping[str, ChainHead] | None = None) -> Verified:
    """earlier: heads of a check of before, which must still be where they were."""
    problems: list[str] = []
    heads: dict[str, ChainHead] = {}
    kept = dict(earlier or {})
    async with transaction(database, read_only=True) as session:
        async for row, event in repository.linked(session):
            last = heads.get(row.chain, ChainHead(0, FIRST))
            problems += [
                f"chain {row.chain}, link {row.number}: {what}" for what in _misfits(last, row, event)
            ]
            heads[row.chain] = ChainHead(row.number, row.sha256)
            known = kept.get(row.chain)
            if known is not None and known.number == row.number:
                if known.sha256 != row.sha256:
                    problems.append(
                        f"chain {row.chain}, link {row.number}: is not the head of the earlier check"
                    )
                del kept[row.chain]
        waiting = await repository.count_unlinked(session, 0)
        late = await repository.count_unlinked(session, LATE_S)
    if late:
        problems.append(
            f"{late} events are older than {LATE_S:g} s and in no chain; is the dispatcher running?"
        )
    problems += [
        f"chain {chain}: its end was cut off; an earlier check saw {head.number} events"
        for chain, head in kept.items()
    ]
    return Verified(heads, waiting, problems)


def _misfits(last: ChainHead, row: AuditLink, event: AuditEvent | None) -> Iterator[str]:
    if row.number != last.number + 1:
        yield f"follows on link {last.number}"
    if row.previous_sha256 != last.sha256:
        yield "does not fit the one before it"
    if event is None:
        yield f"its event {row.id} is gone"
    elif row.sha256 != digest(row.previous_sha256, event) or chain_of(event) != row.chain:
        yield f"its event {row.id} was changed"
