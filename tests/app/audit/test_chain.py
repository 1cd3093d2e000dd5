"""The chain of the audit trail: what is recorded is linked, and what was changed afterwards no longer fits."""

import asyncio
import sqlite3
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest

from app.audit import chain, service
from app.audit.chain import ChainHead
from app.audit.service import Act
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.records import AuditEvent
from tests.servers import databases, postgres
from tests.servers.postgres import Place

pytestmark = pytest.mark.anyio


async def happen(database: Database, scope: TenantScope | None, *actions: str) -> None:
    for action in actions:
        async with transaction(database, scope) as session:
            detail = {"number": 1, "share": 0.25, "words": ["é", None]}
            service.record(session, uuid4(), scope and scope.tenant_id, Act(action, "thing:1", detail))


async def change(database: Database, place: Place | None, statement: str) -> None:
    """As somebody who has the database itself, past the triggers."""
    if place is not None:
        await postgres.sql(place.admin_url, "SET session_replication_role = replica", statement)
        return
    with closing(sqlite3.connect(databases.sqlite_file())) as file, file:
        for name in ("update", "delete", "insert"):
            for table in ("audit_events", "audit_links"):
                file.execute(f"DROP TRIGGER {table}_stays_{name}")
        file.execute(statement)


@pytest.fixture
def owned(request: pytest.FixtureRequest, database_url: str) -> Place | None:
    return request.getfixturevalue("place") if database_url.startswith("postgresql") else None


async def test_each_tenant_and_the_platform_have_a_chain_of_their_own(
    database: Database, scope: TenantScope, other_scope: TenantScope
) -> None:
    await happen(database, scope, "a", "b")
    await happen(database, other_scope, "c")
    await happen(database, None, "d")
    assert (await chain.verify(database)).waiting == 4
    assert await chain.link(database) == 4
    await happen(database, scope, "e")
    await chain.link(database)
    found = await chain.verify(database)
    assert (found.problems, found.waiting) == ([], 0)
    assert {name: head.number for name, head in found.heads.items()} == {
        str(scope.tenant_id): 3,
        str(other_scope.tenant_id): 1,
        chain.PLATFORM: 1,
    }
    assert await chain.link(database) == 0
    again = await chain.verify(database, found.heads)
    assert again == found


async def test_two_who_link_at_once_make_one_chain(database: Database, scope: TenantScope) -> None:
    await happen(database, scope, *"abcdefgh")
    await asyncio.gather(*(chain.link(database) for _ in range(3)))
    found = await chain.verify(database)
    assert found.problems == [] and found.heads[str(scope.tenant_id)].number == 8


TAMPERED: dict[str, tuple[str, str]] = {
    "an event that was changed": (
        "UPDATE audit_events SET subject = 'thing:2' WHERE action = 'b'",
        "was changed",
    ),
    "an event that is gone": ("DELETE FROM audit_events WHERE action = 'b'", "is gone"),
    "a link that was taken out": ("DELETE FROM audit_links WHERE number = 2", "follows on link 1"),
    "a link that was changed": (
        f"UPDATE audit_links SET sha256 = '{'1' * 64}' WHERE number = 2",
        "does not fit",
    ),
}


@pytest.mark.parametrize("case", TAMPERED)
async def test_what_was_changed_no_longer_fits(
    database: Database, scope: TenantScope, owned: Place | None, case: str
) -> None:
    statement, said = TAMPERED[case]
    await happen(database, scope, "a", "b", "c")
    await chain.link(database)
    await change(database, owned, statement)
    assert said in str((await chain.verify(database)).problems)


async def test_an_end_that_was_cut_off_shows_against_an_earlier_check(
    database: Database, scope: TenantScope, owned: Place | None
) -> None:
    await happen(database, scope, "a", "b")
    await chain.link(database)
    earlier = (await chain.verify(database)).heads
    cut = "DELETE FROM audit_links WHERE number = 2"
    await change(database, owned, cut)
    found = await chain.verify(database, earlier)
    assert "its end was cut off" in str(found.problems)
    other = {str(scope.tenant_id): ChainHead(1, "f" * 64)}
    assert "is not the head" in str((await chain.verify(database, other)).problems)


async def test_an_event_that_nobody_links_is_told_of(
    database: Database, scope: TenantScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    await happen(database, scope, "a")
    monkeypatch.setattr(chain, "LATE_S", 0.0)
    await asyncio.sleep(0.01)
    assert "in no chain" in str((await chain.verify(database)).problems)


async def test_the_time_is_the_databases(database: Database, scope: TenantScope) -> None:
    """Whatever this process believes; a moment before and after by the same clock."""
    from sqlalchemy import select

    from app.infra.db.clock import now

    async def clock() -> Any:
        async with transaction(database, read_only=True) as session:
            return await session.scalar(select(now()))

    before = await clock()
    await happen(database, scope, "a")
    async with transaction(database, read_only=True) as session:
        (event,) = await session.scalars(select(AuditEvent).where(AuditEvent.action == "a"))
    assert before <= event.at <= await clock()
