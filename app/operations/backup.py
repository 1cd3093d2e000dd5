"""All that an installation knows, as a folder: the database's rows as text, and the files that they name.

The rows are read in one transaction, the files afterwards: a file goes later than what names it. Where somebody deletes
meanwhile, the backup says which are missing, and is to be made again.
`backup.json` is written last and has a digest of everything, so a folder without one, or with another file in it, is no
backup. The form is the same for both databases, so one may be restored into the other.

Not in it: what teachers answered (below a worker's home), what is on its way (parts of uploads), Redis, which only
knows what rows say too, and models' bases, which have an identity instead.
"""

import base64
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ValidationError
from sqlalchemy import Column, Table
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import AppError, InputError
from app.infra.db.base import UtcDateTime
from app.infra.db.engine import Database, open_database
from app.infra.db.rows import as_text
from app.infra.db.session import transaction
from app.infra.db.version import RELEASE, check_version
from app.infra.storage import Storage, open_storage
from app.infra.tables.all import METADATA
from app.infra.tables.files import FileKind, StoredFile
from app.operations import repository
from app.settings import Settings
from evaluation.atomic_files import whole, write_whole

TOLD, TABLES, FILES = "backup.json", "tables", "files"
_LEFT_OUT = frozenset({"processes", "maintenance"})  # who lived then, and what was done there
_FORM = 1
# Without one of these something is wrong; the others may go, or be rebuilt, while the backup is made.
_NEEDED = frozenset(
    {FileKind.snapshot, FileKind.adapter, FileKind.traces, FileKind.upload, FileKind.rejects, FileKind.report}
)
Tell = Callable[[str], None]


class BackupIncomplete(AppError):
    """What the database names is not all in the storage; `details` lists what is missing. The rest is there."""

    code = "backup_incomplete"


class BackupPart(BaseModel):
    """size_bytes of a file; rows of a table."""

    sha256: str
    size_bytes: int
    rows: int | None = None


class BackupManifest(BaseModel):
    """missing: files that rows name and the storage has not. with_files: whether their content is in the folder."""

    form: int
    release: int
    database_version: str
    made_at: datetime
    tables: dict[str, BackupPart]
    files: dict[str, BackupPart]
    missing: list[str]
    with_files: bool


class Named(NamedTuple):
    """needed: False of what may not be there without anything being wrong."""

    key: str
    needed: bool = True


# ------------------------------------------------------------------------------------------------------------- making


async def back_up(settings: Settings, out: Path, tell: Tell, *, with_files: bool = True) -> BackupManifest:
    """out: a folder that is not there yet, and is not there after an error either, BackupIncomplete apart.

    Raises: BackupIncomplete, DatabaseMisfit, InputError, NoSpace.
    """
    try:
        out.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        raise InputError(f"{out} is there already; name a folder that is to be made") from None
    try:
        return await _back_up(settings, out, tell, with_files)
    finally:
        if not (out / TOLD).exists():
            shutil.rmtree(out, ignore_errors=True)


async def _back_up(settings: Settings, out: Path, tell: Tell, with_files: bool) -> BackupManifest:
    (out / TABLES).mkdir()
    storage = open_storage(settings.storage_url)
    database = open_database(settings.database_url, settings.platform_database_url)
    try:
        version = await check_version(database)
        tables, named = await _write_tables(database, out)
    finally:
        await database.close()
    tell(f"{sum(part.rows or 0 for part in tables.values())} rows of {len(tables)} tables")
    files, missing = _write_files(storage, sorted(set(named)), out / FILES if with_files else None)
    told = BackupManifest(
        form=_FORM,
        release=RELEASE,
        database_version=", ".join(version.found),
        made_at=datetime.now(UTC),
        tables=tables,
        files=files,
        missing=missing,
        with_files=with_files,
    )
    write_whole(out / TOLD, told.model_dump_json(indent=1).encode())
    tell(f"{len(files)} files{'' if with_files else ' named, not copied'}")
    if missing:
        raise BackupIncomplete(
            f"{len(missing)} files that the database names are not in the storage; everything else is in {out}",
            missing,
        )
    return told


async def _write_tables(database: Database, out: Path) -> tuple[dict[str, BackupPart], list[Named]]:
    parts: dict[str, BackupPart] = {}
    named: list[Named] = []
    async with database.sessions() as session, session.begin():
        await repository.see_all_as_of_now(session)
        for table in _tables():
            path = out / TABLES / f"{table.name}.jsonl"
            count = 0
            with whole(path) as file:
                async for row in repository.rows_of(session, table):
                    named += _named(row) if table.name == StoredFile.__tablename__ else []
                    file.write(_line(row))
                    count += 1
            parts[table.name] = BackupPart(sha256=_sha256(path), size_bytes=path.stat().st_size, rows=count)
    return parts, named


def _write_files(
    storage: Storage, named: list[Named], folder: Path | None
) -> tuple[dict[str, BackupPart], list[str]]:
    """folder: None: what there is is read and described, but not kept."""
    parts: dict[str, BackupPart] = {}
    missing: list[str] = []
    for key, needed in named:
        try:
            with storage.open_read(key) as source:
                parts[key] = _copied(source, None if folder is None else folder / key)
        except FileNotFoundError:
            missing += [key] if needed else []
    return parts, missing


def _copied(source: Any, target: Path | None) -> BackupPart:
    digest, size_bytes = hashlib.sha256(), 0

    def blocks() -> Iterator[bytes]:
        nonlocal size_bytes
        while block := source.read(1 << 20):
            digest.update(block)
            size_bytes += len(block)
            yield block

    if target is None:
        for _ in blocks():
            pass
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as sink:
            for block in blocks():
                sink.write(block)
    return BackupPart(sha256=digest.hexdigest(), size_bytes=size_bytes)


def _named(row: dict[str, Any]) -> list[Named]:
    """The file that a row of the register tells of, if it is to be in the storage and stays there."""
    kind = FileKind(row["kind"])
    if row["kept_until"] is not None or kind is FileKind.teachers_answers:
        return []
    return [Named(row["key"], kind in _NEEDED)]


# ---------------------------------------------------------------------------------------------------------- restoring


async def restore(settings: Settings, source: Path, tell: Tell) -> BackupManifest:
    """Into an installation that is empty: a migrated database without a tenant. Files first, so that no row is without
    its own; all rows in one transaction.

    Raises: DatabaseMisfit, InputError, NoSpace, StorageAway.
    """
    told = read(source)
    storage = open_storage(settings.storage_url)
    database = open_database(settings.database_url, settings.platform_database_url)
    try:
        version = ", ".join((await check_version(database)).found)
        if version != told.database_version:
            raise InputError(
                f"the backup is of a database at {told.database_version} and this one is at {version}; restore with "
                "the release that made the backup, and migrate afterwards"
            )
        async with transaction(database, read_only=True) as session:
            if not await repository.is_empty(session):
                raise InputError(
                    "the database has tenants or keys; restore into one that has only been migrated"
                )
        _check_files(storage, source, told)
        tell(f"{len(told.files)} files")
        async with transaction(database) as session:
            for table in _tables():
                await _read_table(session, table, source / TABLES / f"{table.name}.jsonl")
            await repository.link_again(session)
        tell(f"{sum(part.rows or 0 for part in told.tables.values())} rows of {len(told.tables)} tables")
    finally:
        await database.close()
    return told


def read(source: Path) -> BackupManifest:
    """What a backup says of itself, having been compared with what is there. Raises: InputError."""
    try:
        told = BackupManifest.model_validate_json((source / TOLD).read_bytes())
    except (OSError, ValidationError):
        raise InputError(f"{source} is no finished backup: it has no {TOLD} that can be read") from None
    if told.form != _FORM or set(told.tables) != {table.name for table in _tables()}:
        raise InputError(f"{source} was made by another release ({told.release}); restore it with that one")
    parts = {f"{TABLES}/{name}.jsonl": part for name, part in told.tables.items()}
    if told.with_files:
        parts |= {f"{FILES}/{key}": part for key, part in told.files.items()}
    for name, part in parts.items():
        path = source / name
        if not path.is_file() or path.stat().st_size != part.size_bytes or _sha256(path) != part.sha256:
            raise InputError(f"{path} is not as it was when the backup was made")
    return told


def _check_files(storage: Storage, source: Path, told: BackupManifest) -> None:
    """Puts there what is missing; of a backup without files it must be there already."""
    absent = []
    for key in told.files:
        if storage.exists(key):
            continue
        if told.with_files:
            storage.put_file(source / FILES / key, key)
        else:
            absent.append(key)
    if absent:
        raise InputError(
            f"the backup holds no files, and {len(absent)} of those that it names are not in the storage",
            absent,
        )


async def _read_table(session: AsyncSession, table: Table, path: Path) -> None:
    batch: list[dict[str, Any]] = []
    with path.open("rb") as lines:
        for line in lines:
            batch.append(_row(table, json.loads(line)))
            if len(batch) == repository.ROWS_AT_ONCE:
                await repository.insert_rows(session, table, batch)
                batch = []
    await repository.insert_rows(session, table, batch)


# -------------------------------------------------------------------------------------------------------------- forms


def _tables() -> list[Table]:
    """Each after those that it refers to."""
    return [table for table in METADATA.sorted_tables if table.name not in _LEFT_OUT]


def _line(row: dict[str, Any]) -> bytes:
    return (
        json.dumps(row, default=as_text, ensure_ascii=False, allow_nan=False, sort_keys=True).encode() + b"\n"
    )


def _row(table: Table, stored: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(table.columns[name], value) for name, value in stored.items()}


def _value(column: Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column.type, UtcDateTime):
        return datetime.fromisoformat(value)
    kind = column.type.python_type
    if issubclass(kind, Enum):
        return kind(value)
    if kind is date:
        return date.fromisoformat(value)
    if kind is bytes:
        return base64.b64decode(value)
    return UUID(value) if kind is UUID else value


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
