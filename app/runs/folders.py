"""Where a run's stages work on this machine: a folder that outlives attempts, so that the next one goes on there."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple
from uuid import UUID

from app.errors import AppError
from app.infra import locks
from app.settings import Settings


class FolderBusy(AppError):
    """An earlier attempt on this machine has not ended yet."""

    code = "run_folder_busy"


class RunFolder(NamedTuple):
    root: Path

    @property
    def snapshot(self) -> Path:
        return self.root / "snapshot.jsonl"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    def traces(self, sha256: str) -> Path:
        """Named after the content, so that a manifest that names it cannot come to mean something else."""
        return self.root / "traces" / f"{sha256}.jsonl"

    def stage(self, number: int, kind: str) -> Path:
        return self.root / "stages" / f"{number}-{kind}"


def folder_of(settings: Settings, run_id: UUID) -> RunFolder:
    return RunFolder(_all(settings) / str(run_id))


def teachers_answers(settings: Settings, file_id: UUID) -> Path:
    """Outlives runs, so that a repeated run on the same dataset pays no teacher twice. file_id: of its row."""
    return all_teachers_answers(settings) / f"{file_id}.sqlite"


def all_teachers_answers(settings: Settings) -> Path:
    return settings.home / "teachers"


def lock(folder: RunFolder, timeout_s: float, stopped: Callable[[], bool]) -> IO[str]:
    """Held until the file is closed, in the child that inherits it too: two trainers never share a folder.

    Raises: FolderBusy.
    """
    folder.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = (folder.root / ".lock").open("w")
    if not locks.take_within(file, timeout_s, stopped):
        file.close()
        raise FolderBusy("an earlier attempt on the same machine has not ended yet")
    return file


def present(settings: Settings) -> list[UUID]:
    """Runs that have a folder on this machine."""
    folder = _all(settings)
    return [UUID(path.name) for path in folder.iterdir() if _is_id(path.name)] if folder.is_dir() else []


def remove(settings: Settings, run_id: UUID) -> None:
    shutil.rmtree(folder_of(settings, run_id).root, ignore_errors=True)


def _all(settings: Settings) -> Path:
    return settings.home / "runs"


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
