from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, CreatedAt, Id, Sha256, TenantOwned, utc_now, within_tenant


class Schema(TenantOwned, Base):
    """draft_problems: what is wrong with the draft, found as it was written; NULL: it is older than this column."""

    __tablename__ = "schemas"
    __table_args__ = (UniqueConstraint("tenant_id", "id"), UniqueConstraint("tenant_id", "name"))

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(200))
    draft: Mapped[dict[str, Any]]
    draft_problems: Mapped[list[dict[str, Any]] | None]
    draft_revision: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(default=utc_now)


class SchemaVersion(TenantOwned, Base):
    """Never changed. content: a CategorySchema of the contract as JSON; sha256 is that object's."""

    __tablename__ = "schema_versions"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint(
            "tenant_id", "schema_id", "id"
        ),  # lets others point at a version of that very schema
        UniqueConstraint("schema_id", "number"),
        UniqueConstraint("schema_id", "sha256"),
        within_tenant("schemas", "schema_id"),
        CheckConstraint("number >= 1", name="number_is_positive"),
    )

    id: Mapped[Id]
    schema_id: Mapped[UUID]
    number: Mapped[int]
    content: Mapped[dict[str, Any]]
    sha256: Mapped[Sha256]
    published_at: Mapped[datetime] = mapped_column(default=utc_now)
    published_by: Mapped[UUID | None]  # key id; no foreign key, since what was done outlives the key


class Republication(TenantOwned, Base):
    """Content that an older version has was published again: from then on that version is the current one."""

    __tablename__ = "schema_republications"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("schemas", "schema_id"),
        within_tenant("schema_versions", "schema_id", "schema_version_id"),
        UniqueConstraint("schema_version_id", "published_at"),
    )

    id: Mapped[Id]
    schema_id: Mapped[UUID]
    schema_version_id: Mapped[UUID]
    published_at: Mapped[datetime] = mapped_column(default=utc_now)
    published_by: Mapped[UUID | None]
