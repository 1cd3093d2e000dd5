"""Migrated databases for tests. On PostgreSQL they are used as the application's role, which owns nothing."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Table, event, make_url

from app.infra.db import migrate
from app.infra.db.engine import Database, open_database
from app.infra.tables.all import METADATA
from tests.servers import postgres
from tests.servers.postgres import Place

_sqlite_files: list[str] = []  # the last one is that of the test which runs


def opened(url: str) -> Database:
    """To be closed after the test, and the next test gets the same one, on its own file.

    An engine writes the SQL of a query once: a new one for each test was a fifth of what most of them took.
    """
    if make_url(url).get_backend_name() != "sqlite":
        return _on_postgres(url)
    _sqlite_files.append(str(make_url(url).database))
    return _on_sqlite()


def sqlite_file() -> str:
    return _sqlite_files[-1]


@cache
def _on_postgres(url: str) -> Database:
    return open_database(url, postgres.as_platform(url))


@cache
def _on_sqlite() -> Database:
    made = open_database("sqlite:///the-file-of-the-test")

    @event.listens_for(made.engine.sync_engine, "do_connect")
    def here(_dialect: Any, _record: Any, arguments: list[Any], _options: Any) -> None:
        arguments[0] = sqlite_file()

    return made


def sqlite_url(folder: Path) -> str:
    """A new one, copied from one that was migrated once."""
    shutil.copy(_sqlite_template(), folder / "steerwise.db")
    return f"sqlite:///{folder}/steerwise.db"


@cache
def postgres_place() -> Place:
    """One for this process, migrated by its owner."""
    place = postgres.create_database()
    atexit.register(postgres.drop_database, place)
    migrate.upgrade(place.owner_url, app_role=postgres.APP, platform_role=postgres.PLATFORM)
    return place


def empty(place: Place) -> None:
    """Only tables with rows are touched: to truncate every one takes the server twice as long, before each test.

    Triggers that protect rows from the application protect them from this too, unless they are told not to.
    """
    postgres.run_sql(
        place.admin_url,
        "SET session_replication_role = replica",
        f"DO $$ BEGIN {' '.join(map(_emptied, METADATA.sorted_tables))} END $$",
    )


def _emptied(table: Table) -> str:
    """In PL/pgSQL. A column that counts by itself begins anew."""
    rows = f"IF EXISTS (SELECT FROM {table.name}) THEN DELETE FROM {table.name}; END IF;"
    counted = table.autoincrement_column
    if counted is None:
        return rows
    return f"{rows} PERFORM setval(pg_get_serial_sequence('{table.name}', '{counted.name}'), 1, false);"


@cache
def _sqlite_template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sw-sqlite-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    migrate.upgrade(f"sqlite:///{folder}/template.db")
    return folder / "template.db"
