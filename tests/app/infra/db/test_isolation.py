"""No tenant sees another's rows: by row-level security on PostgreSQL, by the session itself on SQLite."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from app.infra.db.base import Base
from app.infra.db.engine import Database, open_database
from app.infra.db.guard import OutsideTenant
from app.infra.db.isolation import IsolationOff, check_isolation
from app.infra.db.scope import TenantScope
from app.infra.db.session import enter_platform, enter_tenant, transaction
from app.infra.tables.all import METADATA
from app.infra.tables.auth import ApiKey
from app.infra.tables.schemas import Schema, SchemaVersion
from app.infra.tables.tenants import Tenant
from tests.factories.rows import save, version_of
from tests.servers import postgres
from tests.servers.postgres import Place

pytestmark = pytest.mark.anyio
REFUSED = (OutsideTenant, DBAPIError)  # SQLite's session, and PostgreSQL


async def tenant_with_schema(database: Database) -> tuple[TenantScope, UUID]:
    tenant = Tenant(id=uuid4(), name=f"tenant {uuid4()}")
    schema = Schema(id=uuid4(), tenant_id=tenant.id, name="support", draft={})
    async with transaction(database) as session:
        await save(session, tenant, schema, version_of(schema, 1))
    return TenantScope(tenant.id), schema.id


async def everything_seen(session: AsyncSession) -> set[UUID]:
    """By every way that a repository may take."""
    other = aliased(Schema)
    joined = select(SchemaVersion.schema_id).join(Schema, Schema.id == SchemaVersion.schema_id)
    inner = select(SchemaVersion.schema_id).where(SchemaVersion.schema_id.in_(select(Schema.id)))
    seen = {row.id for row in await session.scalars(select(Schema))}
    for query in (select(Schema.id), select(other.id), joined, inner):
        seen |= set(await session.scalars(query))
    counted = await session.scalar(select(func.count()).select_from(Schema))
    assert counted == len(seen)
    return seen


async def test_a_tenant_sees_its_own_rows_alone(database: Database) -> None:
    """Twice and in both orders: compiled statements are kept, and must not keep the first tenant."""
    one, one_schema = await tenant_with_schema(database)
    other, other_schema = await tenant_with_schema(database)
    for scope, own, foreign in ((one, one_schema, other_schema), (other, other_schema, one_schema)) * 2:
        async with transaction(database, scope, read_only=True) as session:
            assert await everything_seen(session) == {own}
            assert await session.get(Schema, foreign) is None


async def test_a_tenant_changes_its_own_rows_alone(database: Database) -> None:
    one, one_schema = await tenant_with_schema(database)
    _, other_schema = await tenant_with_schema(database)
    async with transaction(database, one) as session:
        renamed = await session.scalars(update(Schema).values(name="renamed").returning(Schema.id))
        assert set(renamed) == {one_schema}
        await session.execute(delete(SchemaVersion))
        await session.execute(delete(Schema).where(Schema.id == other_schema))
    async with transaction(database) as session:
        assert set(await session.scalars(select(Schema.id).where(Schema.name == "support"))) == {other_schema}
        assert list(await session.scalars(select(SchemaVersion.schema_id))) == [other_schema]


async def test_a_tenant_writes_no_row_of_another(
    database: Database, scope: TenantScope, other_scope: TenantScope
) -> None:
    foreign: dict[str, Any] = {"id": uuid4(), "tenant_id": other_scope.tenant_id, "name": "x", "draft": {}}
    with pytest.raises(REFUSED):
        async with transaction(database, scope) as session:
            session.add(Schema(**foreign))
    for statement in (insert(Schema).values(**foreign), insert(Schema.__table__).values(**foreign)):
        with pytest.raises(REFUSED):
            async with transaction(database, scope) as session:
                await session.execute(statement.values(created_at=func.now(), updated_at=func.now()))
    async with transaction(database) as session:
        assert list(await session.scalars(select(Schema))) == []


async def test_a_tenant_gives_no_row_away(
    database: Database, scope: TenantScope, other_scope: TenantScope
) -> None:
    async with transaction(database, scope) as session:
        session.add(schema := Schema(tenant_id=scope.tenant_id, name="x", draft={}))

    async def give_away() -> None:
        async with transaction(database, scope) as session:
            held = await session.get_one(Schema, schema.id)
            held.tenant_id = other_scope.tenant_id

    with pytest.raises(REFUSED):
        await give_away()


async def test_a_row_that_was_found_can_be_changed_refreshed_and_removed(
    database: Database, scope: TenantScope
) -> None:
    async with transaction(database, scope) as session:
        session.add(schema := Schema(tenant_id=scope.tenant_id, name="x", draft={}))
    async with transaction(database, scope) as session:
        held = await session.get_one(Schema, schema.id)
        held.name = "y"
        await session.flush()
        await session.refresh(held, with_for_update=True)
        assert held.name == "y"
        await session.delete(held)
    async with transaction(database, scope) as session:
        assert await session.get(Schema, schema.id) is None


async def test_keys_of_the_platform_are_hidden_from_tenants(database: Database, scope: TenantScope) -> None:
    async with transaction(database) as session:
        session.add(ApiKey(tenant_id=None, name="root", prefix="p", digest="0" * 64, scopes=["admin"]))
        session.add(
            ApiKey(tenant_id=scope.tenant_id, name="own", prefix="q", digest="0" * 64, scopes=["classify"])
        )
    async with transaction(database, scope) as session:
        assert [key.name for key in await session.scalars(select(ApiKey))] == ["own"]


async def test_another_tenants_name_is_hidden(
    database: Database, scope: TenantScope, other_scope: TenantScope
) -> None:
    async with transaction(database, scope) as session:
        own = await session.scalars(select(Tenant.name).where(Tenant.id == scope.tenant_id))
        assert list(own) == ["one"]
    try:
        async with transaction(database, scope) as session:
            seen = await session.get(Tenant, other_scope.tenant_id)
    except OutsideTenant:
        seen = None
    assert seen is None


async def test_a_session_that_was_told_nothing_sees_nothing(database: Database) -> None:
    await tenant_with_schema(database)
    try:
        async with database.sessions() as session:
            seen = list(await session.scalars(select(Schema)))
    except OutsideTenant:
        seen = []
    assert seen == []


async def test_a_tenants_session_stays_its_own(
    database: Database, scope: TenantScope, other_scope: TenantScope
) -> None:
    async with transaction(database, scope) as session:
        await enter_tenant(session, scope)
        with pytest.raises(OutsideTenant):
            await enter_platform(session)
        with pytest.raises(OutsideTenant):
            await enter_tenant(session, other_scope)


async def test_the_platforms_session_can_be_narrowed_after_it_began(database: Database) -> None:
    one, one_schema = await tenant_with_schema(database)
    await tenant_with_schema(database)
    async with transaction(database) as session:
        assert len(await everything_seen(session)) == 2
        await enter_tenant(session, one)
        assert await everything_seen(session) == {one_schema}


@pytest.mark.parametrize(
    "query",
    [text("SELECT * FROM schemas"), select(Schema.__table__), delete(Schema.__table__)],
    ids=["text", "select", "delete"],
)
async def test_sqlite_is_not_asked_without_the_tenant(sqlite: Database, query: Any) -> None:
    one, _ = await tenant_with_schema(sqlite)
    with pytest.raises(OutsideTenant):
        async with transaction(sqlite, one) as session:
            await session.execute(query)


async def test_a_flush_that_failed_leaves_the_guard_on(sqlite: Database) -> None:
    one, schema = await tenant_with_schema(sqlite)
    async with transaction(sqlite, one) as session:
        with pytest.raises(IntegrityError):
            async with session.begin_nested():
                session.add(Schema(id=schema, tenant_id=one.tenant_id, name="again", draft={}))
        with pytest.raises(OutsideTenant):
            await session.execute(text("SELECT * FROM schemas"))


async def test_raw_sql_on_postgresql_reaches_no_other_tenant(postgresql: Database) -> None:
    one, one_schema = await tenant_with_schema(postgresql)
    _, other_schema = await tenant_with_schema(postgresql)
    async with transaction(postgresql, one) as session:
        assert list(await session.scalars(text("SELECT id FROM schemas"))) == [one_schema]
        taken = text("UPDATE schemas SET name = 'taken' WHERE id = :id RETURNING id")
        assert (await session.execute(taken, {"id": other_schema})).all() == []
        gone = text("DELETE FROM schema_versions WHERE schema_id = :id RETURNING id")
        assert (await session.execute(gone, {"id": other_schema})).all() == []


async def test_a_pooled_connection_hands_no_tenant_on(postgresql: Database) -> None:
    one, _ = await tenant_with_schema(postgresql)
    async with transaction(postgresql, one) as session:
        backend = await session.scalar(text("SELECT pg_backend_pid()"))
    async with postgresql.engine.connect() as connection:
        asked = text("SELECT pg_backend_pid(), current_setting('app.tenant_id', true), count(*) FROM schemas")
        assert (await connection.execute(asked)).one() == (backend, "", 0)


async def test_every_table_is_under_row_level_security_that_its_owner_cannot_escape(place: Place) -> None:
    found = await postgres.sql(
        place.admin_url,
        "SELECT relname, relrowsecurity, relforcerowsecurity, "
        "(SELECT count(*) FROM pg_policy WHERE polrelid = c.oid AND polqual IS NOT NULL AND polwithcheck IS NOT NULL) "
        "FROM pg_class c WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace",
    )
    protected = {name for name, enabled, forced, policies in found if enabled and forced and policies == 1}
    assert {name for name, *_ in found} - protected == {"alembic_version"}
    assert protected == set(METADATA.tables)


async def test_row_level_security_holds_for_the_owner_of_the_tables(
    postgresql: Database, place: Place
) -> None:
    await tenant_with_schema(postgresql)
    assert await postgres.sql(place.owner_url, "SELECT * FROM schemas") == []


async def test_a_role_that_sees_everything_is_refused(postgresql: Database, place: Place) -> None:
    await check_isolation(postgresql)
    for url, platform_url in (
        (place.admin_url, place.platform_url),
        (place.app_url, place.admin_url),
        (place.app_url, None),
        (place.app_url, place.app_url),
        (place.platform_url, place.platform_url),
        (place.owner_url, place.platform_url),
    ):
        wrong = open_database(url, platform_url)
        with pytest.raises(IsolationOff):
            await check_isolation(wrong)
        await wrong.close()


SWITCHED = "SELECT set_config('app.platform', 'on', true)"


async def test_the_applications_role_cannot_make_itself_the_platform(postgresql: Database) -> None:
    """Whatever is smuggled into a tenant's session: the setting means nothing for its role."""
    one, one_schema = await tenant_with_schema(postgresql)
    _, other_schema = await tenant_with_schema(postgresql)
    async with transaction(postgresql, one) as session:
        await session.execute(text(SWITCHED))
        assert list(await session.scalars(text("SELECT id FROM schemas"))) == [one_schema]
        taken = text("UPDATE schemas SET name = 'taken' WHERE id = :id RETURNING id")
        assert (await session.execute(taken, {"id": other_schema})).all() == []
        with pytest.raises(DBAPIError):
            await session.execute(text("SET ROLE steerwise_platform"))
    async with postgresql.engine.connect() as connection:
        await connection.execute(text(SWITCHED))
        assert (await connection.execute(text("SELECT count(*) FROM schemas"))).scalar() == 0


async def test_tenants_and_the_platform_have_connections_of_their_own(postgresql: Database) -> None:
    scope, _ = await tenant_with_schema(postgresql)
    who = text("SELECT current_user")
    for read_only in (False, True):
        async with transaction(postgresql, scope, read_only=read_only) as session:
            assert await session.scalar(who) == postgres.APP
        async with transaction(postgresql, read_only=read_only) as session:
            assert await session.scalar(who) == postgres.PLATFORM
            assert await session.scalar(select(func.count()).select_from(Tenant)) == 1
    async with postgresql.sessions() as session, session.begin():
        assert await session.scalar(who) == postgres.APP  # it was told nothing
    assert postgresql.platform is not None
    async with postgresql.platform.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM tenants"))).scalar() == 0


async def test_a_session_of_the_platform_that_becomes_a_tenants_sees_that_tenant_alone(
    postgresql: Database,
) -> None:
    one, one_schema = await tenant_with_schema(postgresql)
    await tenant_with_schema(postgresql)
    async with transaction(postgresql) as session:
        assert len(list(await session.scalars(select(Schema)))) == 2
        await enter_tenant(session, one)
        assert list(await session.scalars(text("SELECT id FROM schemas"))) == [one_schema]


async def test_every_policy_asks_who_the_platform_is(place: Place) -> None:
    rules = await postgres.sql(place.admin_url, "SELECT tablename, qual, with_check FROM pg_policies")
    assert (
        rules
        and [name for name, *both in rules if not all("is_platform_role()" in rule for rule in both)] == []
    )


async def test_sqlite_needs_no_role(sqlite: Database) -> None:
    await check_isolation(sqlite)


def test_every_table_says_whose_its_rows_are() -> None:
    mixed_in = {
        mapper.local_table.name for mapper in Base.registry.mappers if hasattr(mapper.class_, "tenant_id")
    }
    assert set(METADATA.tables) - mixed_in == {"tenants"}
