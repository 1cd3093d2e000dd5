"""A door to the storage for what is about files alone: nothing keeps a register."""

from pathlib import Path
from typing import NamedTuple

from app.infra.db.scope import TenantScope
from app.infra.files.repository import NewFile
from app.infra.storage import Storage


class UnlistedDoor(NamedTuple):
    """As `app.infra.files.door.FileDoor` for code that runs in a thread."""

    storage: Storage
    scope: TenantScope

    def put_from_thread(self, local: Path, file: NewFile) -> None:
        self.storage.put_file(local, file.key)
