"""Looks at the database while a fault run goes on, and at everything in the end."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import AppError
from app.faults import repository
from app.faults.history import Artifact, Claim, EndState, LiveLook
from app.faults.plant import Plant
from app.faults.repository import CheckedFile
from app.infra import outage
from app.infra.db.engine import Database, open_database
from app.infra.db.session import transaction
from app.infra.storage import Storage, open_storage
from app.runs import artifacts
from app.serving import adapter_store
from app.serving.base import STARTER, digest, find_base

T = TypeVar("T")
_LOOK_EVERY_S = 0.5


class Recorder:
    def __init__(self, plant: Plant):
        self.plant = plant
        self.claims: list[Claim] = []
        self.looks: list[LiveLook] = []
        self.base_sha256 = digest(find_base(STARTER))
        self.missed = 0

    def look_until(self, stop: threading.Event) -> None:
        asyncio.run(self._look_until(stop))

    async def _look_until(self, stop: threading.Event) -> None:
        async with self._opened() as database:
            while not stop.is_set():
                try:
                    await self._look(database)
                except Exception as error:
                    if not outage.passes(error):
                        raise
                    self.missed += 1  # as it is one of the faults that the database is away
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _look(self, database: Database) -> None:
        async with transaction(database, read_only=True) as session:
            claims, looks = await repository.claims(session), await repository.live(session, self.base_sha256)
        self.claims += claims
        self.looks += looks

    def read(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        return asyncio.run(self._read(work))

    async def _read(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        async with self._opened() as database, transaction(database, read_only=True) as session:
            return await work(session)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Database]:
        settings = self.plant.settings
        database = open_database(settings.database_url, settings.platform_database_url)
        try:
            yield database
        finally:
            await database.close()

    def found(self) -> EndState:
        """When nothing is under way any more."""
        return self.read(self._found)

    async def _found(self, session: AsyncSession) -> EndState:
        files = await repository.files(session)
        return EndState(
            datasets=await repository.datasets(session),
            versions=await repository.versions(session),
            runs=await repository.runs(session),
            jobs=await repository.jobs(session),
            models=await repository.models(session),
            gates=await repository.gates(session),
            deployments=await repository.deployments(session),
            artifacts=await asyncio.to_thread(self._artifacts, files),
        )

    def _artifacts(self, files: list[CheckedFile]) -> list[Artifact]:
        scratch = self.plant.scratch / "read-back"
        storage = open_storage(self.plant.settings.storage_url)
        try:
            return [_artifact(storage, file, scratch) for file in dict.fromkeys(files)]
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _artifact(storage: Storage, file: CheckedFile, scratch: Path) -> Artifact:
    """file.sha256 None: what is there is as it should be."""
    found: str | None
    try:
        if file.adapter:
            assert file.sha256 is not None
            found = adapter_store.fetch_adapter(storage, file.key, file.sha256, scratch / "adapters").name
        else:
            local = scratch / "file"
            storage.get_file(file.key, local)
            found = artifacts.sha256_of(local)
    except FileNotFoundError:
        found = None
    except AppError as error:
        found = f"something else ({error})"
    return Artifact(file.key, file.sha256 or found or "anything", found)
