"""What every table has in common: the names of constraints, and the column types that both databases share."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID, uuid4

from sqlalchemy import JSON, DateTime, Dialect, Enum, ForeignKey, ForeignKeyConstraint, MetaData, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
ENUM_LENGTH = 24
SHA256_LENGTH = 64  # hexadecimal


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC, on SQLite too, which stores none of the zone. Raises: ValueError for a naive one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(f"a time without a zone cannot be stored: {value.isoformat()}")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# A change inside a stored value is not noticed: assign a new one. None is SQL's NULL, not JSON's.
Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy declares it without ClassVar)
        datetime: UtcDateTime(),
        dict[str, Any]: Json,
        list[str]: Json,
        list[dict[str, Any]]: Json,
    }


def utc_now() -> datetime:
    return datetime.now(UTC)


Id = Annotated[UUID, mapped_column(primary_key=True, default=uuid4)]
CreatedAt = Annotated[datetime, mapped_column(default=utc_now)]
Sha256 = Annotated[str, mapped_column(String(SHA256_LENGTH))]


class TenantOwned:
    """Mixin of every table whose rows belong to one tenant; sessions add its condition by themselves."""

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"))


class TenantOrPlatformOwned:
    """Likewise, where NULL means the platform itself."""

    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenants.id"))


def choice(kind: type[StrEnum], name: str | None = None) -> Enum:
    """VARCHAR with a CHECK: PostgreSQL's own enum types cannot lose a value, and SQLite has none.

    name: of the rule; None: the kind's.
    """
    return Enum(
        kind,
        native_enum=False,
        create_constraint=True,
        length=ENUM_LENGTH,
        values_callable=lambda members: [member.value for member in members],
        name=name or _snake(kind.__name__),
    )


def within_tenant(table: str, *columns: str, ondelete: str | None = None) -> ForeignKeyConstraint:
    """A foreign key (tenant_id, column, …) whose last column is the other row's id: never another tenant's row.

    Columns before the last have the same name there. The other table needs UNIQUE over the same columns.
    """
    theirs = [f"{table}.tenant_id", *(f"{table}.{name}" for name in columns[:-1]), f"{table}.id"]
    return ForeignKeyConstraint(["tenant_id", *columns], theirs, ondelete=ondelete)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
