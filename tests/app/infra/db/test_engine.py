"""Both databases give the same promises about writing, waiting, times and JSON."""

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError, StatementError

from app.errors import InputError
from app.infra.db import clock
from app.infra.db.engine import Database, make_engine
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.datasets import Dataset
from app.infra.tables.schemas import Schema
from app.infra.tables.tenants import Tenant

pytestmark = pytest.mark.anyio
SLACK = timedelta(seconds=30)  # between the database's clock and ours, on a busy machine


async def quota(database: Database) -> int:
    async with transaction(database, read_only=True) as session:
        return (await session.scalars(select(Tenant.upload_quota_bytes))).one()


async def test_sqlite_is_set_up_to_be_shared_by_processes(sqlite: Database) -> None:
    async with sqlite.engine.connect() as connection:
        asked = ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        found = [(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in asked]
    assert found == ["wal", 1, 10_000, 1]


async def test_of_two_who_read_and_then_write_none_is_refused_and_nothing_is_lost(sqlite: Database) -> None:
    async with transaction(sqlite) as session:
        session.add(tenant := Tenant(name="one", upload_quota_bytes=0))

    async def add_one() -> None:
        async with transaction(sqlite) as session:
            held = await session.get_one(Tenant, tenant.id)
            await asyncio.sleep(0.05)
            held.upload_quota_bytes += 1

    await asyncio.gather(*(add_one() for _ in range(4)))
    assert await quota(sqlite) == 4


async def test_a_reader_waits_for_no_writer(database: Database) -> None:
    async with transaction(database) as session:
        session.add(Tenant(name="one", upload_quota_bytes=1))
    async with transaction(database) as writing:
        await writing.execute(update(Tenant).values(upload_quota_bytes=2))
        start = time.monotonic()
        assert await quota(database) == 1
        assert time.monotonic() - start < 9
    assert await quota(database) == 2


async def test_a_reader_cannot_write(database: Database) -> None:
    with pytest.raises(DBAPIError):
        async with transaction(database, read_only=True) as session:
            session.add(Tenant(name="one"))
    async with transaction(database) as session:  # on the same pooled connection
        session.add(Tenant(name="one"))


async def test_an_exception_undoes_everything(database: Database) -> None:
    async def fail() -> None:
        async with transaction(database) as session:
            session.add(Tenant(name="one"))
            await session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with transaction(database) as session:
        assert await session.scalar(select(func.count()).select_from(Tenant)) == 0


async def test_a_time_comes_back_in_utc_as_it_was(database: Database) -> None:
    summer = datetime(2026, 7, 1, 12, 30, 15, 123456, timezone(timedelta(hours=2)))
    async with transaction(database) as session:
        session.add(Tenant(name="one", created_at=summer))
    async with transaction(database) as session:
        [found] = await session.scalars(select(Tenant.created_at).where(Tenant.created_at == summer))
    assert (found, found.tzinfo) == (summer, UTC)


async def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="without a zone"):
        async with transaction(database) as session:
            session.add(Tenant(name="one", created_at=datetime(2026, 7, 1)))  # noqa: DTZ001


async def test_the_databases_clock_is_compared_with_stored_times(database: Database) -> None:
    async with transaction(database) as session:
        session.add(Tenant(name="late", created_at=datetime.now(UTC) + timedelta(hours=1)))
        session.add(Tenant(name="early", created_at=datetime.now(UTC) - timedelta(hours=1)))
        await session.flush()
        assert list(await session.scalars(select(Tenant.name).where(Tenant.created_at < clock.now()))) == [
            "early"
        ]
        later = select(Tenant.name).where(Tenant.created_at < clock.now(2 * 3600))
        assert set(await session.scalars(later)) == {"early", "late"}
        assert (
            list(await session.scalars(select(Tenant.name).where(Tenant.created_at < clock.now(-7200)))) == []
        )


async def test_the_databases_clock_can_be_stored(database: Database) -> None:
    async with transaction(database) as session:
        session.add(tenant := Tenant(name="one"))
        await session.flush()
        await session.execute(update(Tenant).values(created_at=clock.now(90.5)))
        await session.refresh(tenant)
    assert abs(tenant.created_at - datetime.now(UTC) - timedelta(seconds=90.5)) < SLACK


async def test_no_value_is_null_and_not_a_json_null(database: Database, scope: TenantScope) -> None:
    own = {"tenant_id": scope.tenant_id}
    async with transaction(database, scope) as session:
        session.add(schema := Schema(name="x", draft={"a": [1, None, "ü"]}, **own))
        await session.flush()
        session.add(Dataset(schema_id=schema.id, name="d", problem=None, **own))
    async with transaction(database, scope) as session:
        assert await session.scalar(select(func.count()).where(Dataset.problem.is_(None))) == 1
        assert (await session.get_one(Schema, schema.id)).draft == {"a": [1, None, "ü"]}


async def test_what_is_no_number_is_no_json(database: Database, scope: TenantScope) -> None:
    with pytest.raises(StatementError):
        async with transaction(database, scope) as session:
            session.add(Schema(tenant_id=scope.tenant_id, name="x", draft={"loss": float("nan")}))


async def test_a_word_that_is_no_state_is_refused_by_the_database(
    database: Database, scope: TenantScope
) -> None:
    async with transaction(database) as session:
        session.add(schema := Schema(tenant_id=scope.tenant_id, name="x", draft={}))
        await session.flush()
        session.add(Dataset(tenant_id=scope.tenant_id, schema_id=schema.id, name="d"))
    wrong = text("UPDATE datasets SET state = 'done' WHERE name = 'd'")
    with pytest.raises(DBAPIError, match="ck_datasets_dataset_state"):
        async with transaction(database) as session:
            await session.execute(wrong)


@pytest.mark.parametrize("url", ["mysql://root:hunter2@db/x", "hunter2", "", "sqlserver://sa:hunter2@db"])
async def test_an_unknown_database_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(InputError) as caught:
        make_engine(url)
    assert "hunter2" not in str(caught.value) or url == "hunter2"


async def test_a_url_may_leave_the_drivers_name_out() -> None:
    names = {
        make_engine(url).url.drivername
        for url in ("postgres://u@h/d", "postgresql://u@h/d", "postgresql+asyncpg://u@h/d")
    }
    assert names == {"postgresql+asyncpg"}
