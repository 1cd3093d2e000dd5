"""Versions go up and down on filled databases, and end where the models say. On SQLite and on PostgreSQL."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from app.answers import repository as answers
from app.errors import InputError
from app.infra.db import migrate
from app.infra.db.engine import make_engine, open_database
from app.infra.db.session import transaction
from app.infra.tables.all import METADATA
from app.infra.tables.answers import KeptAnswer
from app.infra.tables.files import StoredFile
from app.infra.tables.jobs import Job, JobEvent
from app.infra.tables.schemas import Schema
from app.infra.tables.tenants import HeldBytes, HeldKind
from evaluation.contract.mode import Mode
from tests.factories.rows import all_that_follows, save, story
from tests.servers import postgres

pytestmark = pytest.mark.seconds
ROOT = Path(__file__).parents[2]
FIRST = "2026_11_22_data"
LATER_TABLES = {
    "runs", "model_versions", "jobs", "job_events", "gate_results", "deployments", "served_edits",
    "schema_republications", "teacher_spending", "held_bytes", "audit_links", "kept_answers",
    "processes", "maintenance", "stored_files", "triggers", "answer_hours", "people",
}  # fmt: skip
MADE_AGAIN = {"held_bytes": 1}  # from what is kept
LOCK_WAIT_S = 5
LATER = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "later", "NEWEST"


def upgrade():
    with op.batch_alter_table("datasets", recreate="always") as batch:
        batch.add_column(sa.Column("note", sa.String()))
"""
UPGRADE = "import sys; from app.infra.db.migrate import upgrade; upgrade(sys.argv[1])"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database, as the owner of the tables that are to be."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/steerwise.db"
        return
    place = postgres.create_database()
    yield place.owner_url
    postgres.drop_database(place)


def seen(url: str, look: Any) -> Any:
    """What a function of a connection finds, on an engine of its own."""

    async def run() -> Any:
        engine = make_engine(url)
        try:
            async with engine.begin() as connection:
                return await connection.run_sync(look)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def execute(url: str, statement: str) -> None:
    seen(url, lambda connection: connection.execute(text(statement)))


def tables(url: str) -> set[str]:
    return seen(url, lambda connection: set(inspect(connection).get_table_names())) - {"alembic_version"}


def structure(connection: Connection) -> dict[str, Any]:
    """All that a database knows of our tables, without the order in which it was said."""
    about = inspect(connection)
    return {
        name: {
            "columns": sorted((c["name"], str(c["type"]), c["nullable"]) for c in about.get_columns(name)),
            "key": about.get_pk_constraint(name)["constrained_columns"],
            "references": _sorted(about.get_foreign_keys(name)),
            "unique": _sorted(about.get_unique_constraints(name)),
            "checks": sorted((c["name"], _plain(c["sqltext"])) for c in about.get_check_constraints(name)),
            "indexes": _sorted(about.get_indexes(name)),
        }
        for name in METADATA.tables
    }


def _sorted(found: list[Any]) -> list[str]:
    return sorted(str(_flat(one)) for one in found)


def _flat(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((name, _flat(held)) for name, held in value.items())
    return value if isinstance(value, list | bool | None) else _plain(str(value))


def _plain(sql: str) -> str:
    return " ".join(sql.split())


def fill(url: str, mode: Mode = Mode.reasoned) -> None:
    async def run() -> None:
        database = open_database(url)
        told = story()
        told.gate.mode = mode
        async with transaction(database) as session:
            await save(session, *told)
            await save(session, *all_that_follows(told))
        await database.engine.dispose()

    asyncio.run(run())


def rows(url: str) -> dict[str, int]:
    async def run() -> dict[str, int]:
        database = open_database(url)
        async with transaction(database) as session:
            present = await session.run_sync(lambda s: inspect(s.connection()).get_table_names())
            counted = {
                name: await session.scalar(select(func.count()).select_from(table)) or 0
                for name, table in METADATA.tables.items()
                if name in present
            }
        await database.engine.dispose()
        return counted

    return asyncio.run(run())


def test_models_and_migrations_agree(url: str) -> None:
    migrate.upgrade(url)
    migrate.check(url)


def test_migrations_make_what_the_models_would(url: str, tmp_path: Path) -> None:
    """Names, conditions and partial indexes too, at which Alembic's own comparison does not look."""
    migrate.upgrade(url)
    if url.startswith("sqlite"):
        compared = f"sqlite:///{tmp_path}/models.db"
        seen(compared, METADATA.create_all)
        assert seen(url, structure) == seen(compared, structure)
        return
    place = postgres.create_database()
    try:
        seen(place.owner_url, METADATA.create_all)
        assert seen(url, structure) == seen(place.owner_url, structure)
    finally:
        postgres.drop_database(place)


def test_every_table_is_filled_and_stays_so_when_nothing_is_to_be_done(url: str) -> None:
    migrate.upgrade(url)
    fill(url)
    before = rows(url)
    assert set(before) == set(METADATA.tables)
    assert [name for name, count in before.items() if count == 0] == []
    migrate.upgrade(url)
    assert rows(url) == before


def test_a_filled_database_goes_down_step_by_step_and_up_again(url: str) -> None:
    migrate.upgrade(url)
    fill(url)
    before = rows(url)
    migrate.downgrade(url, FIRST)
    kept = {name: count for name, count in before.items() if name not in LATER_TABLES}
    assert rows(url) == kept
    migrate.upgrade(url)
    assert rows(url) == before | dict.fromkeys(LATER_TABLES, 0) | MADE_AGAIN
    migrate.downgrade(url)
    assert tables(url) == set()
    migrate.upgrade(url)
    fill(url)
    migrate.check(url)


def test_kept_answers_of_before_count_with_all_that_they_say(url: str) -> None:
    words = {
        "messages": [{"role": "customer", "text": "Wo ist mein Päckchen? 📦"}],
        "reasoning": "Es heißt so.",
        "evidence": [{"quote": "Päckchen", "message_index": 0}],
        "extra": {"Land": "Österreich"},
    }
    migrate.upgrade(url)
    fill(url)
    asyncio.run(changed_answers(url, words))
    migrate.downgrade(url, "2026_11_29_slots")
    migrate.upgrade(url)
    assert asyncio.run(answer_bytes(url)) == ([answers.size_of(words)], [answers.size_of(words)])


async def changed_answers(url: str, values: dict[str, Any]) -> None:
    database = open_database(url)
    async with transaction(database) as session:
        await session.execute(update(KeptAnswer).values(values))
    await database.engine.dispose()


async def answer_bytes(url: str) -> tuple[list[int], list[int]]:
    """Of each answer, and what their tenants hold for them."""
    database = open_database(url)
    async with transaction(database, read_only=True) as session:
        of_each = await session.scalars(select(KeptAnswer.size_bytes))
        held = await session.scalars(select(HeldBytes.size_bytes).where(HeldBytes.kind == HeldKind.answers))
        found = list(of_each), list(held)
    await database.engine.dispose()
    return found


def test_files_of_before_are_found_through_the_rows_that_name_them(url: str) -> None:
    migrate.upgrade(url)
    fill(url)
    result = {"kind": "traces", "artifact_key": "traces/of a run that goes on", "adapter_key": None}

    async def add_result() -> None:
        database = open_database(url)
        async with transaction(database) as session:
            job = (await session.scalars(select(Job))).one()
            told = {"event": "succeeded", "result": result}
            own = {"tenant_id": job.tenant_id, "run_id": job.run_id}
            session.add(JobEvent(job_id=job.id, event=told, **own))
        await database.engine.dispose()

    asyncio.run(add_result())
    migrate.downgrade(url, "2026_11_29_kept_answers")
    migrate.upgrade(url)
    assert asyncio.run(stored_files(url)) == {
        ("snapshot", "runs/snapshot.jsonl"),
        ("adapter", "adapters/one"),
        ("traces", "traces/of a run that goes on"),
    }


async def stored_files(url: str) -> set[tuple[str, str]]:
    database = open_database(url)
    async with transaction(database, read_only=True) as session:
        rows = list(await session.scalars(select(StoredFile)))
    await database.engine.dispose()
    return {(row.kind.value, row.key) for row in rows}


def test_a_model_that_is_served_in_a_mode_is_not_taken_back_to_a_version_that_knows_none(url: str) -> None:
    migrate.upgrade(url)
    fill(url, Mode.fast)
    with pytest.raises(RuntimeError, match="serves in mode fast"):
        migrate.downgrade(url, FIRST)


def test_a_migration_that_fails_leaves_everything_as_it_was(url: str) -> None:
    """The second version finds a table of that name already, after it has made others."""
    migrate.upgrade(url, revision=FIRST)
    before = tables(url)
    execute(url, "CREATE TABLE served_edits (id INTEGER)")
    with pytest.raises(DBAPIError):
        migrate.upgrade(url)
    assert tables(url) == before | {"served_edits"}
    execute(url, "DROP TABLE served_edits")
    migrate.upgrade(url)
    migrate.check(url)


def test_two_processes_may_migrate_at_once(url: str) -> None:
    both = [
        subprocess.Popen([sys.executable, "-c", UPGRADE, url], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    complaints = [child.communicate()[1].decode() for child in both]
    assert [child.returncode for child in both] == [0, 0], complaints
    migrate.check(url)


def test_a_version_that_changes_a_table_of_sqlite_keeps_the_rows_that_refer_to_it(tmp_path: Path) -> None:
    """Such a version makes the table anew and drops the old one, which deletes what cascades if nobody prevents it."""
    url = f"sqlite:///{tmp_path}/steerwise.db"
    migrate.upgrade(url)
    fill(url)
    before = rows(url)
    versions = tmp_path / "versions"
    versions.mkdir()
    newest = ScriptDirectory(str(ROOT / "migrations")).get_current_head()
    assert newest is not None
    (versions / "later.py").write_text(LATER.replace("NEWEST", newest))
    configuration = migrate.configuration(url)
    configuration.set_main_option("path_separator", "newline")
    configuration.set_main_option("version_locations", f"{ROOT}/migrations/versions\n{versions}")
    command.upgrade(configuration, "head")
    assert rows(url) == before
    assert "note" in {c["name"] for c in seen(url, lambda c: inspect(c).get_columns("datasets"))}


def test_a_migration_gives_up_where_somebody_holds_the_table() -> None:
    """Everybody who asks for the table after a waiting migration would wait behind it."""
    place = postgres.create_database()
    migrate.upgrade(place.owner_url)

    async def hold_and_downgrade() -> float:
        database = open_database(place.owner_url)
        async with transaction(database) as session:
            await session.scalars(select(Schema))
            await session.execute(text("LOCK TABLE runs IN ACCESS SHARE MODE"))
            start = time.monotonic()
            with pytest.raises(DBAPIError, match="lock timeout"):
                await asyncio.to_thread(migrate.downgrade, place.owner_url, FIRST)
        await database.engine.dispose()
        return time.monotonic() - start

    assert asyncio.run(hold_and_downgrade()) >= LOCK_WAIT_S - 1
    assert rows(place.owner_url)["runs"] == 0
    postgres.drop_database(place)


def test_the_application_may_use_rows_and_change_no_table() -> None:
    place = postgres.create_database()
    migrate.upgrade(place.owner_url, app_role=postgres.APP, platform_role=postgres.PLATFORM)
    fill(place.platform_url)
    for statement in (
        "DROP TABLE runs",
        "ALTER TABLE runs DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "CREATE TABLE x (id int)",
        "DELETE FROM audit_events",
        "UPDATE alembic_version SET version_num = 'x'",
        "CREATE OR REPLACE FUNCTION is_platform_role() RETURNS boolean LANGUAGE sql AS 'SELECT true'",
    ):
        for url in (place.app_url, place.platform_url):
            with pytest.raises(Exception, match=r"permission denied|must be owner"):
                postgres.run_sql(url, statement)
    with pytest.raises(Exception, match="permission denied"):
        postgres.run_sql(place.app_url, "INSERT INTO audit_links DEFAULT VALUES")
    # Told of once, a role of the platform stays one: a later migration need not name it again.
    migrate.upgrade(place.owner_url)
    assert postgres.run_sql(place.platform_url, "SELECT is_platform_role()") == [[True]]
    assert postgres.run_sql(place.app_url, "SELECT is_platform_role()") == [[False]]
    postgres.drop_database(place)


def test_the_alembic_command_finds_the_versions_and_the_database(tmp_path: Path) -> None:
    environment = os.environ | {"STEERWISE_DATABASE_URL": f"sqlite:///{tmp_path}/steerwise.db"}
    for arguments in (["upgrade", "head"], ["check"]):
        command_line = [sys.executable, "-m", "alembic", *arguments]
        done = subprocess.run(command_line, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert tables(environment["STEERWISE_DATABASE_URL"]) == set(METADATA.tables)


def test_there_is_one_line_of_versions() -> None:
    assert len(ScriptDirectory(str(ROOT / "migrations")).get_heads()) == 1


def test_which_database_is_meant_has_to_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEERWISE_DATABASE_URL", raising=False)
    with pytest.raises(InputError, match="STEERWISE_DATABASE_URL"):
        migrate.upgrade("")
