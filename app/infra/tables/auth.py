from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, CreatedAt, Id, Sha256, TenantOrPlatformOwned, TenantOwned


class ApiKey(TenantOrPlatformOwned, Base):
    """tenant_id NULL: a key of the platform's admins. The key itself is nowhere; digest is its SHA-256.

    parent_id: the key that made it, and with which it ends; perhaps the platform's, so no foreign key within a tenant.
    """

    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("tenant_id", "id"), Index(None, "parent_id"))

    id: Mapped[Id]
    parent_id: Mapped[UUID | None]
    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(32), unique=True)
    digest: Mapped[Sha256]
    scopes: Mapped[list[str]]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class Person(TenantOwned, Base):
    """Somebody who came with a token of the OIDC issuer. id: made of tenant, issuer and subject (`app.auth.people`), so
    that whatever says by whom it was done names the same person without this row.
    """

    __tablename__ = "people"
    __table_args__ = (UniqueConstraint("tenant_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    issuer: Mapped[str] = mapped_column(String(2000))
    subject: Mapped[str] = mapped_column(String(255))
    name: Mapped[str | None] = mapped_column(String(300))
    created_at: Mapped[CreatedAt]
    last_seen_at: Mapped[datetime]
