"""All that a tenant owns as one tar archive, streamed: no connection is held while a reader is slow."""

import asyncio
import io
import json
import tarfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from sqlalchemy import Table

from app.erasure import repository
from app.infra.db.engine import Database
from app.infra.db.rows import as_text
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.storage import Storage
from app.infra.tables.files import FileKind

# Derived from what is in it (signatures, bands), or of passing use to the installation alone; and secrets.
LEFT_OUT: Final = frozenset(
    {"conversation_bands", "idempotency_keys", "held_bytes", "processes", "maintenance"}
)
LEFT_OUT_COLUMNS: Final = {
    "conversations": frozenset({"signature"}),
    "api_keys": frozenset({"digest"}),
}
PIECE_BYTES: Final = 8 << 20
_BLOCK_BYTES: Final = 1 << 20
COMPLETE: Final = "complete.json"


async def archive(database: Database, storage: Storage, scope: TenantScope) -> AsyncIterator[bytes]:
    """Rows as they are while it is made, table by table."""
    counted = Counter[str]()
    for table in repository.exported_tables(LEFT_OUT):
        number = 0
        async for lines, rows in _pieces(database, scope, table):
            number += 1
            counted[table.name] += rows
            for block in _member(f"tables/{table.name}-{number:04}.jsonl", lines):
                yield block
    files, missing = 0, []
    async for key in _keys(database, scope):
        there = False
        async for block in _file(storage, key):
            there = True
            yield block
        files += there
        missing += [] if there else [key]
    told = {"tables": dict(counted), "files": files, "missing": missing}
    for block in _member(COMPLETE, json.dumps(told, indent=1).encode()):
        yield block
    yield bytes(tarfile.BLOCKSIZE * 2)


async def _pieces(database: Database, scope: TenantScope, table: Table) -> AsyncIterator[tuple[bytes, int]]:
    """Its rows as lines, and how many, some megabytes at a time."""
    hidden = LEFT_OUT_COLUMNS.get(table.name, frozenset[str]())
    after: tuple[Any, ...] | None = None
    while True:
        async with transaction(database, scope, read_only=True) as session:
            rows, more = await repository.some_rows(session, scope, table, after, PIECE_BYTES)
        if rows:
            shown = [{name: value for name, value in row.items() if name not in hidden} for row in rows]
            yield await asyncio.to_thread(_lines, shown), len(rows)
            after = tuple(rows[-1][column.name] for column in table.primary_key.columns)
        if not more:
            return


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, default=as_text, ensure_ascii=False).encode() + b"\n" for row in rows)


async def _keys(database: Database, scope: TenantScope) -> AsyncIterator[str]:
    after = ""
    while True:
        async with transaction(database, scope, read_only=True) as session:
            keys = await repository.keys(session, scope, after)
        for kind, key in keys:
            if kind is not FileKind.teachers_answers:  # below the home of a worker
                yield key
        if not keys:
            return
        after = keys[-1][1]


async def _file(storage: Storage, key: str) -> AsyncIterator[bytes]:
    """Nothing where there is none, or none any more."""
    try:
        source = await asyncio.to_thread(storage.open_read, key)
    except FileNotFoundError:
        return
    with source:
        size = await asyncio.to_thread(source.seek, 0, io.SEEK_END)
        await asyncio.to_thread(source.seek, 0)
        yield _header(f"files/{key}", size)
        left = size
        while left:
            block = await asyncio.to_thread(source.read, min(_BLOCK_BYTES, left))
            if not block:
                raise EOFError(f"{key} became shorter while it was read")
            left -= len(block)
            yield block
        yield _padding(size)


def _member(name: str, content: bytes) -> Iterator[bytes]:
    yield _header(name, len(content))
    yield content
    yield _padding(len(content))


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, int(time.time()), 0o600
    return info.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
