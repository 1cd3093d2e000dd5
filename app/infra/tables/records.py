"""What is kept about requests: answers to repeat, use to bill, and who did what."""

from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, CreatedAt, Id, Sha256, TenantOrPlatformOwned, TenantOwned


class IdempotencyKey(TenantOwned, Base):
    """status_code NULL: the first request with this key is still being answered."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "key", "route"),
        Index(None, "created_at"),
    )

    id: Mapped[Id]
    key: Mapped[str] = mapped_column(String(200))
    route: Mapped[str] = mapped_column(String(200))
    body_sha256: Mapped[Sha256]
    status_code: Mapped[int | None]
    response: Mapped[dict[str, Any] | None]
    created_at: Mapped[CreatedAt]


class UsageDay(TenantOwned, Base):
    """day: in UTC. Tokens as the model server counted them."""

    __tablename__ = "usage_days"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger, default=0)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    completion_tokens: Mapped[int] = mapped_column(BigInteger, default=0)


class AuditEvent(TenantOrPlatformOwned, Base):
    """Append-only, by a trigger too. subject: `kind:id` of what was acted upon."""

    __tablename__ = "audit_events"
    __table_args__ = (UniqueConstraint("tenant_id", "id"), Index(None, "tenant_id", "at", "id"))

    id: Mapped[Id]
    actor_key_id: Mapped[UUID | None]
    action: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(String(200))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    at: Mapped[CreatedAt]
