"""Looks for a word wherever a product could have left it: every file below a folder, and every row."""

import json
from pathlib import Path

from sqlalchemy import select

from app.infra.db.engine import Database
from app.infra.db.rows import as_text
from app.infra.db.session import transaction
from app.infra.tables.all import METADATA


def in_files(folder: Path, word: str) -> list[str]:
    """Those that have it in their bytes or in their names, a database and its logs among them."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if word in path.name or word.encode() in path.read_bytes():
            found.append(str(path.relative_to(folder)))
    return found


async def in_rows(database: Database, word: str) -> list[str]:
    """Tables with a row that has it."""
    found = []
    async with transaction(database, read_only=True) as session:
        for table in METADATA.sorted_tables:
            rows = await session.execute(select(table))
            if any(
                word in json.dumps(dict(row), default=as_text, ensure_ascii=False) for row in rows.mappings()
            ):
                found.append(table.name)
    return found
