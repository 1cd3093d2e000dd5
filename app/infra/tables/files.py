from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, CreatedAt, Id, TenantOwned, choice


class FileKind(StrEnum):
    """result: what a finished stage has told of itself. teachers_answers: below the home of a worker, and not in the
    storage."""

    upload = "upload"
    rejects = "rejects"
    snapshot = "snapshot"
    suite = "suite"
    report = "report"
    traces = "traces"
    result = "result"
    checkpoint = "checkpoint"
    adapter = "adapter"
    log = "log"
    teachers_answers = "teachers_answers"


class StoredFile(TenantOwned, Base):
    """A file that holds something of a tenant's. It is there before the file is, and goes after it.

    dataset_id, run_id, gate_id: what it was made from, as far as it was; no foreign keys, since files go after rows.
    kept_until: when it goes; NULL: with what it was made from. without: ids of conversations that are yet to be taken
    out of it; NULL: none.
    """

    __tablename__ = "stored_files"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("key"),
        Index(None, "tenant_id", "made_at", "id"),
        Index(None, "dataset_id"),
        Index(None, "run_id"),
        Index(None, "kept_until"),
    )

    id: Mapped[Id]
    kind: Mapped[FileKind] = mapped_column(choice(FileKind))
    key: Mapped[str] = mapped_column(String(500))
    dataset_id: Mapped[UUID | None]
    run_id: Mapped[UUID | None]
    gate_id: Mapped[UUID | None]
    made_at: Mapped[CreatedAt]
    kept_until: Mapped[datetime | None]
    without: Mapped[list[str] | None]
