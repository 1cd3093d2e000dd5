"""What lies below a home stays for as long as a row stands for it."""

import asyncio
import os
import time
from pathlib import Path
from uuid import uuid4

import pytest

from app.erasure import tidying
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.files import repository as files
from app.infra.tables.jobs import Job, JobKind, JobState
from app.settings import Settings
from tests.factories.rows import save, story

pytestmark = pytest.mark.anyio
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@ON_SQLITE
async def test_what_no_row_stands_for_goes(database: Database, settings: Settings) -> None:
    told = story()
    own = {"tenant_id": told.tenant.id}
    running = Job(
        id=uuid4(), kind=JobKind.sft, subject_id=told.run.id, state=JobState.running, owner="me", **own
    )
    ended = Job(id=uuid4(), kind=JobKind.sft, subject_id=told.run.id, state=JobState.failed, **own)
    async with transaction(database) as session:
        await save(session, *told)
        await save(session, running, ended)
        scope = TenantScope(told.tenant.id)
        kept = await files.teachers_answers(session, scope, told.dataset.id)
    home = settings.home
    stay = [home / "runs" / str(told.run.id), home / "jobs" / str(running.id),
            home / "uploads" / f"{told.dataset.id}.part", home / "teachers" / f"{kept}.sqlite",
            home / "uploads" / "somebodys.part"]  # fmt: skip
    go = [home / "runs" / str(uuid4()), home / "jobs" / str(ended.id), home / "uploads" / f"{uuid4()}.part",
          home / "teachers" / f"{told.tenant.id}.sqlite", home / "teachers" / f"{uuid4()}.sqlite-journal"]  # fmt: skip
    for path in stay + go:
        make(path)
    await tidying.tidy(database, settings)
    assert [path for path in stay if not path.exists()] == []
    assert [path for path in go if path.exists()] == []


def make(path: Path) -> None:
    """Some time ago."""
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    else:
        path.mkdir(parents=True)
    os.utime(path, (time.time() - 3600,) * 2)


@ON_SQLITE
async def test_a_home_that_cannot_be_looked_at_now_is_looked_at_again(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def fails(*_: object) -> None:
        seen.append(1)
        raise OSError("the disk is away")

    monkeypatch.setattr(tidying, "tidy", fails)
    monkeypatch.setattr(tidying, "EVERY_S", 0.01)
    async with tidying.kept_tidy(database, settings):
        while len(seen) < 3:
            await asyncio.sleep(0.01)
