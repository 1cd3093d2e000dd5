"""The sweeps that carry out what was deleted: files go, or lose what is to be taken out of them; tenants are erased;
what a tenant keeps for so many days goes when they are over.
"""

import asyncio
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID

import structlog

from app.datasets import conversations
from app.erasure import repository, rewriting
from app.erasure.repository import Keeps
from app.infra.db import wiping
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.files import door
from app.infra.files import repository as files
from app.infra.files.door import FileDoor
from app.infra.files.repository import MadeFrom, NewFile, Registered
from app.infra.storage import Storage, open_storage
from app.infra.tables.files import FileKind
from app.jobs import maintenance
from app.jobs.handlers import register_sweep
from app.jobs.sweeping import each
from app.settings import Settings

FILES_EVERY_S = 5.0
TENANTS_EVERY_S = 30.0
RETENTION_EVERY_S = 60.0
UNLISTED_EVERY_S = 6 * 3600.0
WIPE_EVERY_S = 60.0
QUIET_FOR = timedelta(hours=1)  # what was under way when a tenant or a file was let go has ended by then
_DELETED_AT_ONCE = 20
# What stays with its run, however old: without it no gate could be measured, and no model served.
_AGELESS = (FileKind.snapshot, FileKind.adapter)
_AGES = tuple(kind for kind in FileKind if kind not in _AGELESS)
log = structlog.get_logger()


# --------------------------------------------------------------------------------------------------------------- files


async def sweep_files(database: Database, settings: Settings) -> None:
    async with transaction(database, read_only=True) as session:
        changing, going = await files.to_change(session), await files.to_go(session)
    if not changing and not going:
        return
    storage = await asyncio.to_thread(open_storage, settings.storage_url)
    await each("files to change", changing, partial(_change, database, storage))
    await each("files to go", going, partial(_remove, database, storage))


async def _remove(database: Database, storage: Storage, one: Registered) -> None:
    if one.kind is not FileKind.teachers_answers:  # each worker removes its own: `app.erasure.tidying`
        await asyncio.to_thread(storage.delete, one.key)
    async with transaction(database, one.scope) as session:
        await files.forget(session, one.scope, one.id)


async def _change(database: Database, storage: Storage, one: Registered) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            if one.kind is FileKind.report:
                await _change_report(database, storage, one, Path(folder))
            else:
                await _change_frozen(database, storage, one, Path(folder))
        except FileNotFoundError:
            if utc_now() - one.made_at > QUIET_FOR:  # else whoever has made its row is about to write it
                await _let_go(database, one)


async def _change_frozen(database: Database, storage: Storage, one: Registered, folder: Path) -> None:
    """The runs that lost a row of it get one without, under the name of its content."""
    assert one.without is not None
    source, target = folder / "old.jsonl", folder / "new.jsonl"
    await asyncio.to_thread(storage.get_file, one.key, source)
    made = await asyncio.to_thread(rewriting.frozen_without, source, target, one.without)
    key = f"{one.key.rpartition('/')[0]}/{made.sha256}.jsonl"
    if key != one.key:
        new = NewFile(key, FileKind.snapshot, MadeFrom(dataset_id=one.dataset_id))
        await FileDoor(storage, database, one.scope).put(target, new)
    async with transaction(database, one.scope) as session:
        if await files.changed(session, one):
            await repository.refreeze(session, one.scope, one.key, key, made.sha256)
        for each_key in (one.key, key):  # the new one too, where there is more to take out by now
            if not await repository.freezes(session, one.scope, each_key):
                await files.let_go_of_keys(session, one.scope, [each_key])


async def _change_report(database: Database, storage: Storage, one: Registered, folder: Path) -> None:
    """Every measure stays, and no word."""
    source, target = folder / "old.json", folder / f"new{Path(one.key).suffix}"
    await asyncio.to_thread(storage.get_file, f"{one.key.rpartition('.')[0]}.json", source)
    made = await asyncio.to_thread(rewriting.report_without_words, source)
    if made is None:
        await _let_go(database, one)
        return
    await asyncio.to_thread(rewriting.write_as, made, target)
    await door.put_again(storage, target, one)
    async with transaction(database, one.scope) as session:
        await files.changed(session, one)


async def _let_go(database: Database, one: Registered) -> None:
    async with transaction(database, one.scope) as session:
        await repository.drop_name(session, one.scope, one.key)
        await files.let_go_of_keys(session, one.scope, [one.key])


async def sweep_unlisted(
    database: Database, settings: Settings, older_than_s: float = QUIET_FOR.total_seconds()
) -> None:
    """What lies in the storage without a row: of a transaction that was rolled back after its file was written.

    Whatever is not below the name of a tenant or a job of ours is somebody else's, and only told of.
    """
    storage = await asyncio.to_thread(open_storage, settings.storage_url)
    found = await unlisted(database, storage, older_than_s)
    owners = {key: owner for key in found if (owner := _owner(key)) is not None}
    async with transaction(database, read_only=True) as session:
        ours = await repository.owners(session, list(set(owners.values())))
    for key in found:
        mine = owners.get(key) in ours
        log.warning("file_without_a_row", key=key, removed=mine)
        if mine:
            await asyncio.to_thread(storage.delete, key)


def _owner(key: str) -> UUID | None:
    """The tenant or the job that a key is named after."""
    kind, _, rest = key.partition("/")
    try:
        return UUID(rest.partition("/")[0]) if kind in ("tenants", "jobs") else None
    except ValueError:
        return None


async def unlisted(database: Database, storage: Storage, older_than_s: float = 0.0) -> list[str]:
    """Keys of files that no row tells of, and that have lain there for so long."""
    found: list[str] = []
    present = await asyncio.to_thread(storage.listed, older_than_s)
    for start in range(0, len(present), repository.AT_ONCE // 2):
        some = present[start : start + repository.AT_ONCE // 2]
        async with transaction(database, read_only=True) as session:
            known = await files.known_keys(session, some)
        found += [key for key in some if key not in known]
    return found


# ------------------------------------------------------------------------------------------------------------- tenants


async def sweep_tenants(database: Database, _settings: Settings) -> None:
    async with transaction(database, read_only=True) as session:
        buried = await repository.buried(session)
    await each("tenants", buried, partial(_erase, database))
    async with transaction(database) as session:
        await repository.forget_counted_jobs(session)


async def _erase(database: Database, scope: TenantScope) -> None:
    """Some rows at a time: on SQLite nobody else writes meanwhile."""
    gone = 1
    while gone:
        async with transaction(database, scope) as session:
            gone = await repository.erase_some(session, scope)
    async with transaction(database) as session:
        await files.let_go_of_all(session, scope)
        await repository.note_erased(session, scope, QUIET_FOR)


# ----------------------------------------------------------------------------------------------------------- retention


async def sweep_retention(database: Database, _settings: Settings) -> None:
    async with transaction(database, read_only=True) as session:
        keeping = await repository.keeping(session)
    await each("retention", keeping, partial(_keep, database))


async def _keep(database: Database, keeps: Keeps) -> None:
    if keeps.files is not None:
        made_before = utc_now() - timedelta(days=keeps.files)
        async with transaction(database, keeps.scope) as session:
            await repository.let_go_of_older(session, keeps.scope, _AGES, made_before)
    if keeps.conversations is not None:
        await _keep_conversations(database, keeps.scope, keeps.conversations)


async def _keep_conversations(database: Database, scope: TenantScope, days: int) -> None:
    """As if somebody had deleted each of them."""
    came_before = utc_now() - timedelta(days=days)
    while True:
        async with transaction(database, scope) as session:
            old = await repository.old_conversations(session, scope, came_before, _DELETED_AT_ONCE)
            for conversation_id in old:
                await conversations.delete(session, scope, None, conversation_id)
        if len(old) < _DELETED_AT_ONCE:
            return


# ------------------------------------------------------------------------------------------------------ free pages


async def sweep_free_pages(database: Database, settings: Settings) -> None:
    """On SQLite: what was deleted leaves the log of changes, and now and then the file becomes smaller."""
    if database.engine.dialect.name != "sqlite":
        return
    async with transaction(database, read_only=True) as session:
        paused = await maintenance.is_on(session)
    await asyncio.to_thread(wiping.wipe, settings.database_url, at_leisure=paused)


register_sweep("stored files", sweep_files, FILES_EVERY_S)
register_sweep("unlisted files", sweep_unlisted, UNLISTED_EVERY_S)
register_sweep("deleted tenants", sweep_tenants, TENANTS_EVERY_S)
register_sweep("retention", sweep_retention, RETENTION_EVERY_S)
register_sweep("free pages", sweep_free_pages, WIPE_EVERY_S)
