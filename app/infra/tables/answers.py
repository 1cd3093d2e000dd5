from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, Id, TenantOwned, choice, within_tenant
from app.infra.tables.datasets import Attributed
from evaluation.contract.mode import Mode


class KeptAnswer(Attributed, TenantOwned, Base):
    """An answer with its conversation, both without personal data that can be told by its form.

    category_key: as it was answered; NULL: none of these, abstained, or no answer could be read (failure).
    size_bytes: of its words, counted in the tenant's quota.
    feedback: what somebody said of it, see `app.answers.payloads`; NULL: nothing.
    """

    __tablename__ = "kept_answers"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("schemas", "schema_id"),
        within_tenant("schema_versions", "schema_id", "schema_version_id"),
        Index(None, "tenant_id", "created_at", "id"),
        Index(None, "expires_at"),
        Index("ix_kept_answers_customer", "tenant_id", "customer_reference"),
        Index("ix_kept_answers_reference", "tenant_id", "conversation_reference"),
    )

    id: Mapped[Id]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    schema_id: Mapped[UUID]
    schema_version_id: Mapped[UUID]
    deployment_id: Mapped[UUID | None]
    model_version_id: Mapped[UUID | None]
    messages: Mapped[list[dict[str, Any]]]
    size_bytes: Mapped[int]
    mode: Mapped[Mode] = mapped_column(choice(Mode))
    category_key: Mapped[str | None] = mapped_column(String(128))
    confidence: Mapped[float | None]
    probabilities: Mapped[list[dict[str, Any]] | None]
    label_mass: Mapped[float | None]
    abstained: Mapped[bool]
    degraded: Mapped[bool]
    provisional: Mapped[bool]
    failure: Mapped[str | None] = mapped_column(String(64))
    reasoning: Mapped[str | None]
    evidence: Mapped[list[dict[str, Any]] | None]
    decided_by: Mapped[dict[str, Any] | None]
    feedback: Mapped[dict[str, Any] | None]
