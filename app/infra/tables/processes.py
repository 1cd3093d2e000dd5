from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, CreatedAt, Id, TenantOrPlatformOwned, choice, utc_now


class ProcessKind(StrEnum):
    worker = "worker"
    dispatcher = "dispatcher"


class Process(TenantOrPlatformOwned, Base):
    """What works in the background, of the platform's. about: queues, versions, what its machine has.

    seen_at: by the database's clock, every few seconds while it lives.
    """

    __tablename__ = "processes"
    __table_args__ = (Index(None, "kind", "seen_at"),)

    id: Mapped[Id]
    kind: Mapped[ProcessKind] = mapped_column(choice(ProcessKind))
    host: Mapped[str] = mapped_column(String(200))
    about: Mapped[dict[str, Any]]
    started_at: Mapped[CreatedAt]
    seen_at: Mapped[datetime] = mapped_column(default=utc_now)


class Maintenance(TenantOrPlatformOwned, Base):
    """While this row is there, no job begins. id: always 1, so that there is one at most."""

    __tablename__ = "maintenance"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    reason: Mapped[str] = mapped_column(String(500))
    began_at: Mapped[CreatedAt]
