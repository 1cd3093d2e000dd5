"""What stages make, in the storage: under names made from the content, so that a name never means something else."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from app.infra.db.scope import TenantScope
from app.infra.files.door import FileDoor
from app.infra.files.repository import MadeFrom, NewFile
from app.infra.storage import Storage
from app.infra.tables.files import FileKind
from app.serving import adapters
from app.serving.adapter_store import Damaged

PEAK = "peak_memory_bytes"  # among the metrics of a stage: on its GPU, else of its process


class StageResult(NamedTuple):
    """What a finished stage has made. sha256: of the traces file, or of the adapter as app.serving.adapters counts it.

    seconds: of the process that finished it. base_sha256: of the base that it was made with.
    """

    kind: str
    artifact_key: str
    adapter_key: str | None
    sha256: str
    metrics: dict[str, Any]
    seconds: float
    base_sha256: str

    @property
    def stored(self) -> dict[str, Any]:
        return self._asdict()

    @property
    def of_model(self) -> dict[str, Any]:
        """As a model version lists it."""
        return {name: value for name, value in self._asdict().items() if name != "base_sha256"}


def adapter_key(tenant_id: UUID, sha256: str) -> str:
    """Of a folder: the names of app.serving.adapters.files_of follow it."""
    return f"tenants/{tenant_id}/adapters/{sha256}/"


def run_key(scope: TenantScope, run_id: UUID, *parts: str) -> str:
    return "/".join(("tenants", str(scope.tenant_id), "runs", str(run_id), *parts))


def put_traces(files: FileDoor, run_id: UUID, path: Path) -> tuple[str, str]:
    """Returns its key and its sha256."""
    sha256 = sha256_of(path)
    key = run_key(files.scope, run_id, "traces", f"{sha256}.jsonl")
    files.put_from_thread(path, NewFile(key, FileKind.traces, MadeFrom(run_id=run_id)))
    return key, sha256


def put_adapter(files: FileDoor, run_id: UUID, source: Path, workdir: Path, max_rank: int) -> tuple[str, str]:
    """Checked as vLLM needs it. Returns its key and its sha256. Raises: AdapterRefused."""
    frozen = adapters.freeze(source, workdir / "frozen", max_rank)
    key = adapter_key(files.scope.tenant_id, frozen.sha256)
    for name in adapters.files_of(frozen.folder):
        made = NewFile(key + name, FileKind.adapter, MadeFrom(run_id=run_id))
        files.put_from_thread(frozen.folder / name, made)
    return key, frozen.sha256


def fetch_file(storage: Storage, key: str, sha256: str, local: Path) -> Path:
    """Raises: Damaged, FileNotFoundError, NoSpace."""
    if not (local.is_file() and sha256_of(local) == sha256):
        storage.get_file(key, local)
        if sha256_of(local) != sha256:
            raise Damaged("a file in the storage is not the one that was put there")
    return local


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --------------------------------------------------------------- what an attempt had finished before it was cut off


def note_done(files: FileDoor, run_id: UUID, key: str, result: StageResult, workdir: Path) -> None:
    """Written after everything that it names."""
    path = workdir / "done.json"
    path.write_text(json.dumps(result.stored))
    files.put_from_thread(path, NewFile(key, FileKind.result, MadeFrom(run_id=run_id)))


def read_done(storage: Storage, key: str) -> StageResult | None:
    if not storage.exists(key):
        return None
    with storage.open_read(key) as file:
        return StageResult(**json.load(file))
