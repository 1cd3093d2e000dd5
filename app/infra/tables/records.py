"""What is kept about requests: answers to repeat, use to bill, and who did what."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, ForeignKeyConstraint, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, CreatedAt, Id, Sha256, TenantOrPlatformOwned, TenantOwned
from app.infra.db.clock import now


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


class AnswerHour(TenantOwned, Base):
    """How often the deployed model answered what under a schema version within an hour, without a word of anybody's.

    hour: its beginning, in UTC. outcome: the key of a category, or a word in parentheses, which no key may be
    (`app.usage.service.outcome_of`). The sums are of the answers whose mass on labels is known.
    """

    __tablename__ = "answer_hours"
    __table_args__ = (Index(None, "tenant_id", "schema_id", "hour"), Index(None, "hour"))

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    model_version_id: Mapped[UUID] = mapped_column(primary_key=True)
    schema_version_id: Mapped[UUID] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(String(128), primary_key=True)
    schema_id: Mapped[UUID]
    answers: Mapped[int] = mapped_column(BigInteger)
    masses: Mapped[int] = mapped_column(BigInteger)
    mass_sum: Mapped[float]
    mass_squares: Mapped[float]


class AuditEvent(TenantOrPlatformOwned, Base):
    """Append-only, by a trigger too. subject: `kind:id` of what was acted upon. at: by the database's clock."""

    __tablename__ = "audit_events"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        Index(None, "tenant_id", "at", "id"),
        Index(None, "at"),
    )

    id: Mapped[Id]
    actor_key_id: Mapped[UUID | None]
    action: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(String(200))
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    at: Mapped[datetime] = mapped_column(default=now())


class AuditLink(TenantOrPlatformOwned, Base):
    """Append-only. id: of the event that it links to the one before it in the chain of its tenant, or the platform's.

    sha256: over the event and previous_sha256, so that nothing before it can be changed and still fit.
    """

    __tablename__ = "audit_links"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("chain", "number"),
        ForeignKeyConstraint(["id"], ["audit_events.id"]),
        Index(None, "linked_at"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    chain: Mapped[str] = mapped_column(String(36))
    number: Mapped[int] = mapped_column(BigInteger)
    previous_sha256: Mapped[Sha256]
    sha256: Mapped[Sha256]
    linked_at: Mapped[datetime] = mapped_column(default=now())
