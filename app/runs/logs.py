"""What a stage's process printed, kept in the storage by attempt and read from there while it runs, too."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from app.infra.db.scope import TenantScope
from app.infra.storage import Storage
from app.infra.tables.jobs import Job
from app.jobs.context import log_key
from app.jobs.lease import Ticket
from app.runs.failure import without_paths

MAX_BYTES = 4 << 20  # of an attempt: its end is what tells
MAX_ATTEMPTS = 10
_BLOCK_BYTES = 1 << 16


def copy(source: Path, offset: int, target: Path, known: Sequence[Path]) -> bool:
    """What `source` got since it was `offset` long, without this machine's paths. Whether there is anything."""
    if not source.is_file() or source.stat().st_size <= offset:
        return False
    with source.open("rb") as file:
        file.seek(max(offset, source.stat().st_size - MAX_BYTES))
        text = file.read().decode(errors="replace")
    target.write_text("\n".join(without_paths(line, *known) for line in text.split("\n")))
    return True


def read(storage: Storage, job: Job) -> Iterator[bytes]:
    """Of every attempt that left one, oldest first."""
    for epoch in range(max(1, job.epoch - MAX_ATTEMPTS + 1), job.epoch + 1):
        try:
            file = storage.open_read(log_key(Ticket(TenantScope(job.tenant_id), job.id, epoch)))
        except FileNotFoundError:
            continue
        with file:
            yield f"=== start {epoch} ===\n".encode()
            while block := file.read(_BLOCK_BYTES):
                yield block
