from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, CreatedAt, Id, Sha256, TenantOrPlatformOwned


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
