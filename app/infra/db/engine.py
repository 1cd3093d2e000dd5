"""An engine for each kind of database. Both give the same promises: foreign keys hold, a write is whole or absent."""

import json
from functools import partial
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from app.errors import InputError
from app.infra.db.guard import PLATFORM, GuardedSession, watch

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
SQLITE_BUSY_TIMEOUT_S = 10
READ_ONLY = {"read_only": True, "postgresql_readonly": True}  # execution options of a connection

# NaN and Infinity are no JSON: PostgreSQL refuses them, and SQLite would store what nobody can read back.
_to_json = partial(json.dumps, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


class Database(NamedTuple):
    """platform: connections as the role that may see every tenant; None where the database has one role for all."""

    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    platform: AsyncEngine | None = None

    async def close(self) -> None:
        await self.engine.dispose()
        if self.platform is not None:
            await self.platform.dispose()


def open_database(url: str, platform_url: str | None = None) -> Database:
    """Connects at the first query. Close it with `await database.close()`.

    platform_url: on PostgreSQL, for sessions of the platform; the role of `url` cannot make itself one.
    """
    engine = make_engine(url)
    platform = None if platform_url is None or engine.dialect.name == "sqlite" else make_engine(platform_url)
    info = {} if platform is None else {PLATFORM: platform.sync_engine}
    sessions = async_sessionmaker(
        engine, sync_session_class=GuardedSession, expire_on_commit=False, info=info
    )
    return Database(engine, sessions, platform)


def make_engine(url: str) -> AsyncEngine:
    """url: sqlite:///file.db or postgresql://user:password@host/name, with or without a driver's name."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    return create_async_engine(
        parsed, pool_pre_ping=True, json_serializer=_to_json, connect_args={"async_creator_fn": _connect}
    )


async def _connect(*args: Any, **options: Any) -> Any:
    """A server that nobody reaches is an error of the database's, and not of any socket that we use."""
    try:
        return await asyncpg.connect(*args, **options)
    except OSError as error:
        raise asyncpg.exceptions.ConnectionFailureError(str(error)) from error


def parse_url(url: str) -> URL:
    """Raises: InputError. The message never holds the URL, which may carry a password."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InputError("the database URL cannot be read") from None
    name = parsed.drivername.partition("+")[0]
    if name not in DRIVERS:
        raise InputError(f"{name} is no database that steerwise knows; use sqlite:///… or postgresql://…")
    return parsed.set(drivername=DRIVERS[name])


def _sqlite(url: URL) -> AsyncEngine:
    engine = create_async_engine(
        url,
        # None: the driver begins nothing by itself; it would begin late and take the write lock later still.
        connect_args={"isolation_level": None, "timeout": SQLITE_BUSY_TIMEOUT_S},
        json_serializer=_to_json,
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    watch(engine.sync_engine)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")  # with WAL: the file is never damaged by a crash
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, in free pages too
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """IMMEDIATE: who reads first and writes later would be refused at once, not wait, if another wrote between."""
    reading = bool(connection.get_execution_options().get("read_only"))
    if connection.info.get("reading", False) != reading:
        connection.exec_driver_sql(f"PRAGMA query_only = {int(reading)}")
        connection.info["reading"] = reading
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
