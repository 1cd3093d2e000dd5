"""Bytes that a tenant holds, where several change them at once. (What it may hold: tests/app/runs/test_share.py.)"""

from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.tenants import HeldKind
from app.tenants import repository, share

pytestmark = pytest.mark.anyio
KIND = HeldKind.answers


async def held(database: Database, scope: TenantScope, holder: UUID) -> int:
    async with transaction(database, scope, read_only=True) as session:
        return (await repository.held_bytes(session, scope)).get((KIND, holder), 0)


async def test_bytes_are_added_and_given_back_and_nothing_is_held_below_zero(
    database: Database, scope: TenantScope
) -> None:
    holder, counted = uuid4(), []
    for change in (100, 20, -70, -70, 5):
        async with transaction(database, scope) as session:
            made = share.hold_more if change > 0 else share.give_back
            await made(session, scope, KIND, holder, abs(change))
        counted.append(await held(database, scope, holder))
    assert counted == [100, 120, 50, 0, 5]


async def test_where_nothing_is_held_there_is_nothing_to_give_back(
    database: Database, scope: TenantScope
) -> None:
    async with transaction(database, scope) as session:
        assert not await repository.change_held(session, scope, KIND, uuid4(), -7)
    async with transaction(database, scope, read_only=True) as session:
        assert await repository.held_bytes(session, scope) == {}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_what_is_given_back_while_more_is_taken_is_not_lost(
    database: Database, scope: TenantScope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Giving back waits for no lock of the tenant, so it may come between a look at what is held and the change."""
    holder = uuid4()
    async with transaction(database, scope) as session:
        await share.hold_more(session, scope, KIND, holder, 100)
    look = repository.held_bytes

    async def and_meanwhile(session: AsyncSession, of: TenantScope) -> dict[tuple[HeldKind, UUID], int]:
        found = await look(session, of)
        async with transaction(database, scope) as another:
            await share.give_back(another, scope, KIND, holder, 60)
        return found

    monkeypatch.setattr(repository, "held_bytes", and_meanwhile)
    async with transaction(database, scope) as session:
        await share.hold_more(session, scope, KIND, holder, 10)
    monkeypatch.setattr(repository, "held_bytes", look)
    assert await held(database, scope, holder) == 50
