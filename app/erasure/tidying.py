"""What lies below the home of a machine goes once no row stands for it: folders of runs and of attempts, parts of
uploads, what teachers answered. Every process with a home looks after its own.

An adapter that a model server has read stays until no server has it any more: one that was asked for it would end
without.
"""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from uuid import UUID

from app.datasets import partial
from app.erasure import repository
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.files import repository as files
from app.infra.periodic import periodically
from app.runs import folders
from app.runs.kinds import ENDED
from app.runs.tasks import may_go_on
from app.serving import adapters
from app.serving.replicas import opened
from app.settings import Settings

EVERY_S = 60.0
_LEFT_FOR_S = 600.0


def kept_tidy(database: Database, settings: Settings) -> AbstractAsyncContextManager[None]:
    return periodically(EVERY_S, lambda: tidy(database, settings), "home_not_tidied")


async def tidy(database: Database, settings: Settings) -> None:
    await _runs(database, settings)
    await _attempts(database, settings.home / "jobs")
    await _uploads(database, settings.home / "uploads")
    await _teachers(database, folders.all_teachers_answers(settings))
    await _adapters(database, settings)


async def _runs(database: Database, settings: Settings) -> None:
    present = await asyncio.to_thread(folders.present, settings)
    if not present:
        return
    async with transaction(database, read_only=True) as session:
        found = await repository.runs(session, present)
    needed = {run.id for run in found if run.state not in ENDED or may_go_on(run)}
    for run_id in set(present) - needed:
        await asyncio.to_thread(folders.remove, settings, run_id)


async def _attempts(database: Database, folder: Path) -> None:
    """Left by workers that were killed, some time ago: who has just claimed a job makes its folder anew."""
    present = await asyncio.to_thread(_named, _older(folder.glob("*")), lambda path: path.name)
    if not present:
        return
    async with transaction(database, read_only=True) as session:
        running = await repository.running_jobs(session, list(present))
    for job_id in present.keys() - running:
        await asyncio.to_thread(shutil.rmtree, present[job_id], ignore_errors=True)


async def _uploads(database: Database, folder: Path) -> None:
    present = await asyncio.to_thread(_named, folder.glob(f"*{partial.ENDING}"), lambda path: path.stem)
    if not present:
        return
    async with transaction(database, read_only=True) as session:
        datasets = await repository.wanted_datasets(session, list(present))
    for dataset_id in present.keys() - datasets:
        await asyncio.to_thread(present[dataset_id].unlink, missing_ok=True)


async def _teachers(database: Database, folder: Path) -> None:
    """Those of before, by tenant, had no row."""
    present = await asyncio.to_thread(
        _named, folder.glob("*.sqlite*"), lambda path: path.name.partition(".")[0]
    )
    if not present:
        return
    async with transaction(database, read_only=True) as session:
        wanted = await files.wanted(session, list(present))
    for file_id in present.keys() - wanted:
        for path in folder.glob(f"{file_id}.*"):
            await asyncio.to_thread(path.unlink, missing_ok=True)


async def _adapters(database: Database, settings: Settings) -> None:
    """Those of models that are gone, once no model server has them any more: with its restart at the latest."""
    folder = settings.home / "adapters"
    present = await asyncio.to_thread(adapters.placed, folder)
    if not present or not settings.vllm_urls:
        return
    async with transaction(database, read_only=True) as session:
        gone = present - await repository.adapters(session)
    if not gone:
        return
    async with opened(settings) as replicas:
        for replica in replicas.all:
            gone -= set(await replica.adapters())  # one that does not answer may have any of them
    for name in gone:
        await asyncio.to_thread(adapters.remove, folder, name)


def _older(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _LEFT_FOR_S:
                yield path


def _named(paths: Iterable[Path], name_of: Callable[[Path], str]) -> dict[UUID, Path]:
    """By their ids, those that have one for a name."""
    found: dict[UUID, Path] = {}
    for path in paths:
        try:
            found[UUID(name_of(path))] = path
        except ValueError:
            continue
    return found
