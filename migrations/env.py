"""Runs the versions on either database, all of them in one transaction, for `app.infra.db.migrate` and for
`alembic`.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any, Literal

from alembic import context
from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import InputError
from app.infra.db.base import UtcDateTime
from app.infra.db.engine import make_engine
from app.infra.tables.all import METADATA
from migrations.protection import set_platform_roles

LOCK = 0x5735EE12  # ours among PostgreSQL's advisory locks
SQLITE_WAIT_S = 120  # for another process that migrates
LOCK_TIMEOUT = "5s"  # a change of a table that waits longer would make everybody behind it wait


def main() -> None:
    if context.is_offline_mode():
        raise InputError("migrations look at the database that they change, so there is no SQL to print")
    url = context.config.attributes.get("url") or os.environ.get("STEERWISE_DATABASE_URL")
    if not url:
        raise InputError("which database? set STEERWISE_DATABASE_URL")
    asyncio.run(_run(url))


async def _run(url: str) -> None:
    engine = make_engine(url)
    try:
        async with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                await _prepare_sqlite(connection)
            async with connection.begin():
                await connection.run_sync(_migrate)
    finally:
        await engine.dispose()


async def _prepare_sqlite(connection: AsyncConnection) -> None:
    """SQLite changes a table by making a new one and dropping the old: with foreign keys on, that would delete rows."""
    raw = await connection.get_raw_connection()
    assert raw.driver_connection is not None
    await raw.driver_connection.execute("PRAGMA foreign_keys = OFF")
    await raw.driver_connection.execute(f"PRAGMA busy_timeout = {SQLITE_WAIT_S * 1000}")


def _migrate(connection: Connection) -> None:
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        _prepare_postgres(connection)
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        render_as_batch=not postgres,
        compare_type=True,
        render_item=_plainly,
        process_revision_directives=_skip_empty,
    )
    with context.begin_transaction():
        context.run_migrations()
    if not postgres:
        _check_references(connection)
    else:
        _set_roles(connection)


def _prepare_postgres(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})  # one migration at a time
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    # Row-level security is FORCEd on the owner too, and a migration changes every tenant's rows.
    connection.execute(text("SELECT set_config('app.platform', 'on', true)"))


def _set_roles(connection: Connection) -> None:
    app_role = context.config.attributes.get("app_role")
    platform_role = context.config.attributes.get("platform_role")
    if platform_role:
        owner = connection.scalar(text("SELECT current_user"))
        set_platform_roles(connection, [str(owner), platform_role])
        _grant(connection, platform_role)
    if app_role:
        # Links of the audit trail are made by the platform's dispatcher.
        _grant(connection, app_role, "REVOKE INSERT ON audit_links FROM {name}")


def _grant(connection: Connection, role: str, *less: str) -> None:
    """What a role of the application may do: rows, but no tables, no triggers, and not what was done before."""
    name = connection.dialect.identifier_preparer.quote(role)
    for statement in (
        f"GRANT USAGE ON SCHEMA public TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}",
        f"REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {name}",
        f"REVOKE UPDATE, DELETE ON audit_events, audit_links FROM {name}",
        f"REVOKE UPDATE ON job_events FROM {name}",
        *(one.format(name=name) for one in less),
    ):
        connection.execute(text(statement))


def _check_references(connection: Connection) -> None:
    broken = connection.execute(text("PRAGMA foreign_key_check")).all()
    if broken:
        raise RuntimeError(f"rows would refer to rows that are not there: {broken[:5]}")


def _plainly(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """A version stands by itself: it names no type of ours that may mean something else one day."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def _skip_empty(
    migration: MigrationContext, revision: Any, directives: Sequence[MigrationScript] | list[MigrationScript]
) -> None:
    """`alembic revision --autogenerate` writes no file where nothing has changed."""
    autogenerate = getattr(context.config.cmd_opts, "autogenerate", False)
    if autogenerate and directives[0].upgrade_ops is not None and directives[0].upgrade_ops.is_empty():
        assert isinstance(directives, list)
        directives.clear()


main()
