"""The one door through which files come into the storage, and leave it: no file without a row.

The row comes first and goes last, so that whatever is cut off in between leaves a row without a file, which the next
sweep finds, and never a file that nobody lists.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.files import repository
from app.infra.files.repository import NewFile, Registered
from app.infra.storage import Storage


class FileDoor:
    """Of one tenant. Made in the event loop that its database is used in."""

    def __init__(self, storage: Storage, database: Database, scope: TenantScope):
        self.storage, self.scope = storage, scope
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._noted: dict[str, UUID] = {}  # logs are written again and again

    async def put(self, local: Path, file: NewFile) -> None:
        """Raises: BadKey, NoSpace, StorageAway, and what says that the database is away."""
        file_id = await self._note(file)
        await asyncio.to_thread(self.storage.put_file, local, file.key)
        await self._look_again(file, file_id)

    def put_from_thread(self, local: Path, file: NewFile) -> None:
        """Likewise, from another thread than the loop's, which runs meanwhile."""
        file_id = asyncio.run_coroutine_threadsafe(self._note(file), self._loop).result()
        self.storage.put_file(local, file.key)
        asyncio.run_coroutine_threadsafe(self._look_again(file, file_id), self._loop).result()

    async def remove(self, keys: Sequence[str]) -> None:
        """The files, and then their rows. Raises: BadKey, StorageAway."""
        await remove(self.storage, self._database, keys)

    async def _note(self, file: NewFile) -> UUID:
        if file.key not in self._noted:
            try:
                self._noted[file.key] = await self._note_once(file)
            except IntegrityError:  # somebody was faster with the same content: there is a row now
                self._noted[file.key] = await self._note_once(file)
        return self._noted[file.key]

    async def _note_once(self, file: NewFile) -> UUID:
        async with transaction(self._database, self.scope) as session:
            return await repository.note(session, self.scope, file)

    async def _look_again(self, file: NewFile, file_id: UUID) -> None:
        """Where it was let go between its row and its writing, the sweep may have passed by already."""
        async with transaction(self._database, self.scope, read_only=True) as session:
            wanted = await repository.is_wanted(session, self.scope, file_id)
        if not wanted:
            del self._noted[file.key]
            await self.remove([file.key])


async def put_within(
    session: AsyncSession, storage: Storage, scope: TenantScope, local: Path, file: NewFile
) -> None:
    """In the transaction of what the file is needed by. Where that is rolled back, the file has no row, and goes with
    the next look at what lies in the storage.
    """
    await repository.note(session, scope, file)
    await asyncio.to_thread(storage.put_file, local, file.key)


async def put_again(storage: Storage, local: Path, one: Registered) -> None:
    """Other content of a file that has its row. Raises: BadKey, NoSpace, StorageAway."""
    await asyncio.to_thread(storage.put_file, local, one.key)


async def remove(storage: Storage, database: Database, keys: Sequence[str]) -> None:
    """Of any tenant's. Raises: BadKey, StorageAway."""
    if not keys:
        return
    for key in keys:
        await asyncio.to_thread(storage.delete, key)
    async with transaction(database) as session:
        await repository.forget_keys(session, keys)
