"""A process works with a database from its own version to the next release's, and says of any other what to do."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text
from structlog.testing import capture_logs

from app.infra.db import migrate, version
from app.infra.db.engine import Database, open_database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.db.version import RELEASE, DatabaseMisfit, check_version, release_of, until_it_fits, version_of
from app.infra.tables.jobs import JobState
from app.infra.tables.tenants import Tenant
from app.jobs.context import JobContext
from app.jobs.ends import JobOutcome
from app.jobs.handlers import HANDLERS
from app.jobs.runner import run_job
from app.main import create_app
from app.settings import Settings
from tests.app.jobs.factory import enqueue, make_run, read

pytestmark = pytest.mark.anyio
REVISIONS = [one.revision for one in ScriptDirectory(str(migrate.migrations_folder())).walk_revisions()][::-1]


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Database]:
    opened = open_database(url_of(tmp_path))
    yield opened
    await opened.engine.dispose()


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/old.db"


async def upgraded(folder: Path, revision: str) -> None:
    await asyncio.to_thread(migrate.upgrade, url_of(folder), revision=revision)


async def set_revision(database: Database, revision: str) -> None:
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": revision})


def test_the_release_of_this_code_is_that_of_its_newest_version() -> None:
    assert max(map(release_of, REVISIONS)) == RELEASE
    assert sorted(map(release_of, REVISIONS)) == [release_of(name) for name in REVISIONS]
    assert [release_of(name) for name in ("r2_more", "r10_less", "2026_11_29_mode", "red")] == [2, 10, 1, 1]


async def test_what_is_missing_is_named_in_its_order(empty: Database, tmp_path: Path) -> None:
    with pytest.raises(DatabaseMisfit, match=r"database is empty.*run `steerwise migrate`"):
        await check_version(empty)
    assert (await version_of(empty)).missing == tuple(REVISIONS)
    await upgraded(tmp_path, REVISIONS[-3])
    with pytest.raises(DatabaseMisfit, match=rf"{REVISIONS[-3]}.*missing: {REVISIONS[-2]}, {REVISIONS[-1]}"):
        await check_version(empty)
    await upgraded(tmp_path, "head")
    assert (await check_version(empty)).found == (REVISIONS[-1],)


async def test_on_both_databases_a_migrated_one_fits_whoever_asks(database: Database) -> None:
    assert (await check_version(database)).problem is None


async def test_a_database_of_the_next_release_is_served_and_one_further_ahead_is_not(
    sqlite: Database,
) -> None:
    await set_revision(sqlite, f"r{RELEASE + 1}_added_a_column")
    assert (await check_version(sqlite)).missing == ()
    await set_revision(sqlite, f"r{RELEASE + 2}_removed_a_column")
    with pytest.raises(DatabaseMisfit, match="bring it up to date"):
        await check_version(sqlite)


@pytest.mark.seconds
async def test_a_process_waits_for_the_version_that_it_needs_and_says_so_once(
    empty: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "_LOOK_EVERY_S", 0.02)
    with capture_logs() as lines:
        waiting = asyncio.create_task(until_it_fits(empty, check_version))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await upgraded(tmp_path, "head")
        async with asyncio.timeout(30):
            await waiting
    told = [line["event"] for line in lines if line["event"] in ("waiting_for_database", "database_found")]
    assert told[0] == "waiting_for_database" and told[-1] == "database_found" and len(told) < 5


async def test_no_request_reaches_a_database_that_is_behind_and_readyz_says_what_is_missing(
    empty: Database, tmp_path: Path
) -> None:
    await upgraded(tmp_path, REVISIONS[-2])
    settings = Settings(home=tmp_path, database_url=url_of(tmp_path), storage_url=str(tmp_path / "storage"))
    api = create_app(settings, empty)
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://x") as client,
    ):
        assert (await client.get("/livez")).status_code == 200
        for path in ("/readyz", "/v1/me"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["code"]) == (503, "database_version")
            assert REVISIONS[-1] in answer.json()["detail"]
        await upgraded(tmp_path, "head")
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/v1/me")).status_code == 401


async def test_a_worker_leaves_the_jobs_of_a_database_that_is_too_far_ahead(
    sqlite: Database, sqlite_url: str, tmp_path: Path
) -> None:
    async with transaction(sqlite) as session:
        session.add(tenant := Tenant(name="one"))
    made = await make_run(sqlite, TenantScope(tenant.id))
    job = await enqueue(sqlite, made)
    await set_revision(sqlite, f"r{RELEASE + 2}_removed_a_column")
    await asyncio.to_thread(run_job, job.id, Settings(home=tmp_path / "home", database_url=sqlite_url))
    left = await read(sqlite, job)
    assert (left.state, left.attempt) == (JobState.queued, 0)


async def test_a_worker_does_its_work_beside_an_api_of_the_next_release(
    sqlite: Database, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose versions only add: columns that have a default or may be empty, and tables."""
    async with transaction(sqlite) as session:
        session.add(tenant := Tenant(name="one"))
    made = await make_run(sqlite, TenantScope(tenant.id))
    async with sqlite.engine.begin() as connection:
        for table in ("jobs", "job_events"):
            await connection.execute(
                text(f"ALTER TABLE {table} ADD COLUMN added VARCHAR NOT NULL DEFAULT 'new'")
            )
        await connection.execute(text("CREATE TABLE later (id INTEGER PRIMARY KEY)"))
    await set_revision(sqlite, f"r{RELEASE + 1}_added_a_column")
    job = await enqueue(sqlite, made)

    async def work(context: JobContext) -> JobOutcome:
        await context.save_checkpoint("checkpoints/1")
        return JobOutcome({"rows": 3})

    monkeypatch.setitem(HANDLERS, job.kind, work)
    await asyncio.to_thread(run_job, job.id, Settings(home=tmp_path / "home", database_url=sqlite_url))
    ended = await read(sqlite, job)
    assert (ended.state, ended.checkpoint_uri) == (JobState.succeeded, "checkpoints/1")
