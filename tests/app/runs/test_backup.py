"""A backup, taken while the product works, makes the same of a bare home: every row, and every file that one names."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import DBAPIError

from app.errors import InputError
from app.infra.db import migrate
from app.main import create_app
from app.operations import backup
from app.operations.backup import BackupIncomplete, BackupManifest
from app.serving.adapter_store import fetch_adapter
from app.settings import Settings
from tests.app.runs.conftest import STAGES, Shop
from tests.servers import databases, postgres

pytestmark = [pytest.mark.anyio, pytest.mark.seconds]
ROOT = Path(__file__).parents[3]
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def silent(_line: str) -> None:
    pass


async def taken(settings: Settings, out: Path, *, with_files: bool = True) -> BackupManifest:
    return await backup.back_up(settings, out, silent, with_files=with_files)


async def put_back(settings: Settings, source: Path) -> BackupManifest:
    return await backup.restore(settings, source, silent)


def bare_home(folder: Path) -> Settings:
    folder.mkdir()
    return Settings(
        home=folder / "home", database_url=databases.sqlite_url(folder), storage_url=str(folder / "storage")
    )


async def lived(shop: Shop) -> str:
    """A finished run, one that failed, and one that waits."""
    run = await shop.run()
    for kind in STAGES:
        await shop.work(run["id"], kind)
    (shop.play / "traces.fail").write_text(json.dumps({"status": "failed", "code": "no_examples"}))
    failed = await shop.run(dataset_id=run["dataset_id"])
    await shop.work(failed["id"], "traces")
    await shop.run(dataset_id=run["dataset_id"])
    return str(run["id"])


async def same_answers(shop: Shop, settings: Settings) -> None:
    api = create_app(settings)
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(api), base_url="http://x", headers=shop.client.headers
        ) as client,
    ):
        for path in ("runs", "model-versions", "datasets", "schemas", "audit"):
            there, here = await client.get(f"/v1/{path}"), await shop.client.get(f"/v1/{path}")
            assert there.status_code == 200, path
            assert there.json()["items"] == here.json()["items"], path
        made = await client.post("/v1/schemas", json={"name": "after the restore"})
        assert made.status_code == 201, made.text


async def test_a_bare_home_is_filled_with_all_there_was(shop: Shop, tmp_path: Path) -> None:
    run_id = await lived(shop)
    first = await taken(shop.settings, tmp_path / "first")
    assert first.missing == [] and first.tables["job_events"].rows
    assert len(first.files) >= 7  # the upload, the snapshot, traces, three adapters of two files, logs
    bare = bare_home(tmp_path / "bare")
    assert await put_back(bare, tmp_path / "first") == first
    second = await taken(bare, tmp_path / "second")
    assert {name: part.sha256 for name, part in second.tables.items()} == {
        name: part.sha256 for name, part in first.tables.items()
    }
    assert second.files == first.files
    await same_answers(shop, bare)
    model = (await shop.get(f"runs/{run_id}"))["model_version_id"]
    sha256 = (await shop.get(f"model-versions/{model}"))["adapter_sha256"]
    key = f"tenants/{shop.scope.tenant_id}/adapters/{sha256}/"
    assert fetch_adapter(shop.storage, key, sha256, tmp_path / "fetched").is_dir()
    with pytest.raises(InputError, match="only been migrated"):
        await put_back(bare, tmp_path / "first")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_backup_goes_from_one_postgresql_into_another_and_events_go_on_counting(
    shop: Shop, tmp_path: Path
) -> None:
    await shop.run()
    first = await taken(shop.settings, tmp_path / "first")
    place = await asyncio.to_thread(postgres.create_database)
    try:
        roles = {"app_role": postgres.APP, "platform_role": postgres.PLATFORM}
        await asyncio.to_thread(migrate.upgrade, place.owner_url, **roles)
        bare = Settings(
            home=tmp_path / "bare",
            database_url=place.app_url,
            platform_database_url=place.platform_url,
            storage_url=str(tmp_path / "bare-storage"),
        )
        await put_back(bare, tmp_path / "first")
        second = await taken(bare, tmp_path / "second")
        assert {name: part.sha256 for name, part in second.tables.items()} == {
            name: part.sha256 for name, part in first.tables.items()
        }
        newest = "SELECT max(id), nextval(pg_get_serial_sequence('job_events', 'id')) FROM job_events"
        [[last, following]] = await postgres.sql(place.admin_url, newest)
        assert following == last + 1
    finally:
        await asyncio.to_thread(postgres.drop_database, place)


@ON_SQLITE
async def test_a_file_that_is_not_in_the_storage_is_named_and_the_rest_is_kept(
    shop: Shop, tmp_path: Path
) -> None:
    run = await shop.run()
    await shop.work(run["id"], "traces")
    whole = await taken(shop.settings, tmp_path / "whole")
    lost = next(key for key in whole.files if "/snapshots/" in key)
    (Path(shop.settings.storage_url) / lost).unlink()
    with pytest.raises(BackupIncomplete) as told:
        await taken(shop.settings, tmp_path / "out")
    assert told.value.details == (lost,)
    assert backup.read(tmp_path / "out").missing == [lost]


@ON_SQLITE
async def test_a_backup_that_was_changed_or_not_finished_is_not_restored(shop: Shop, tmp_path: Path) -> None:
    await shop.run()
    await taken(shop.settings, tmp_path / "out")
    for there in ("out", "somebodys"):
        (tmp_path / there).mkdir(exist_ok=True)
        (tmp_path / there / "mine").write_text("kept")
        with pytest.raises(InputError, match="there already"):
            await taken(shop.settings, tmp_path / there)
        assert (tmp_path / there / "mine").read_text() == "kept"
    gone = shop.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/no/where.db"})
    with pytest.raises(DBAPIError):
        await taken(gone, tmp_path / "unfinished")
    assert not (tmp_path / "unfinished").exists()
    rows = tmp_path / "out" / "tables" / "tenants.jsonl"
    rows.write_text(rows.read_text().replace("one", "two"))
    with pytest.raises(InputError, match="not as it was"):
        await put_back(bare_home(tmp_path / "bare"), tmp_path / "out")
    (tmp_path / "out" / "backup.json").unlink()
    with pytest.raises(InputError, match="no finished backup"):
        await put_back(bare_home(tmp_path / "other"), tmp_path / "out")


@ON_SQLITE
async def test_the_commands_back_up_and_restore(shop: Shop, tmp_path: Path) -> None:
    await shop.run()
    out = str(tmp_path / "out")
    made = await command(shop.settings.home, "backup", "--out", out, settings=shop.settings)
    assert made.returncode == 0 and "whole" in made.stdout, made.stderr
    back = await command(tmp_path / "bare", "restore", out)
    assert back.returncode == 0, back.stderr
    again = await command(tmp_path / "bare", "restore", out)
    assert again.returncode == 2 and "only been migrated" in again.stderr
    await same_answers(shop, Settings(home=tmp_path / "bare"))


async def command(
    home: Path, *arguments: str, settings: Settings | None = None
) -> subprocess.CompletedProcess[str]:
    """settings: None: of a home with nothing in it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STEERWISE_")}
    environment["STEERWISE_HOME"] = str(home)
    if settings is not None:
        environment["STEERWISE_DATABASE_URL"] = settings.database_url
        environment["STEERWISE_STORAGE_URL"] = settings.storage_url
    argv = [sys.executable, "-m", "app.cli.program", *arguments]
    return await asyncio.to_thread(
        subprocess.run, argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
