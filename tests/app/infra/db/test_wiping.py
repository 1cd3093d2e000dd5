"""What was deleted from SQLite is in none of its files."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from app.infra.db import wiping
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.tables.datasets import ConversationRow
from tests.factories.rows import save, story

pytestmark = pytest.mark.anyio
WORD = "qwyjibo"


def holding(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("steerwise.db*") if WORD.encode() in path.read_bytes()}


async def test_a_deleted_text_is_overwritten_and_leaves_the_log_of_changes(
    sqlite: Database, sqlite_url: str, tmp_path: Path
) -> None:
    told = story()
    long = [{"role": "customer", "text": f"{WORD} " * 2000}]  # over several pages
    told.conversation.messages = long
    async with transaction(sqlite) as session:
        await save(session, *told)
    assert holding(tmp_path)
    async with transaction(sqlite) as session:
        await session.execute(delete(ConversationRow).where(ConversationRow.id == told.conversation.id))
    assert wiping.wipe(sqlite_url, vacuum=False)
    assert holding(tmp_path) == set()


async def test_a_reader_keeps_the_log_until_it_has_read(
    sqlite: Database, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiping, "_WAIT_MS", 50)
    async with transaction(sqlite) as session:
        await save(session, *story())
    async with transaction(sqlite, read_only=True) as session:
        await session.scalars(select(ConversationRow.id))
        async with transaction(sqlite) as writing:
            await save(writing, *story())
        assert not wiping.wipe(sqlite_url)
    assert wiping.wipe(sqlite_url)


def test_free_pages_are_given_back_where_that_is_worth_it(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE scratch (said TEXT)")
        connection.executemany("INSERT INTO scratch VALUES (?)", [("x" * 4000,) for _ in range(1200)])
        connection.execute("CREATE TABLE kept (said TEXT)")
    connection.close()
    before = path.stat().st_size
    wiping.wipe(f"sqlite:///{path}")
    assert path.stat().st_size == before
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE scratch")
    connection.close()
    wiping.wipe(f"sqlite:///{path}")
    assert path.stat().st_size < before / 10
