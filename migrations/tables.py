"""The words in which versions say what a table has. Names of constraints follow the convention of
app/infra/db/base.py.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import SchemaItem

UUID = sa.Uuid()
WORD = sa.String(24)
SHA256 = sa.String(64)
TEXT = sa.String()
TIME = sa.DateTime(timezone=True)
COUNT = sa.BigInteger()
JSON = sa.JSON().with_variant(JSONB(), "postgresql")
GROWING = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def table(name: str, *parts: SchemaItem, of_platform_too: bool = False) -> None:
    """With the id, the tenant, and the unique key over both that foreign keys of other tables point at."""
    op.create_table(
        name,
        must("id"),
        sa.Column("tenant_id", UUID, nullable=of_platform_too),
        *parts,
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant_id", "id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
    )


def must(name: str, kind: sa.types.TypeEngine[Any] = UUID) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)


def may(name: str, kind: sa.types.TypeEngine[Any] = UUID) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True)


def one_of(column: str, rule: str, words: str, nullable: bool = False) -> tuple[SchemaItem, SchemaItem]:
    allowed = ", ".join(f"'{word}'" for word in words.split())
    return sa.Column(column, WORD, nullable=nullable), sa.CheckConstraint(
        f"{column} IN ({allowed})", name=rule
    )


def within(table: str, *columns: str, cascade: bool = False) -> sa.ForeignKeyConstraint:
    """A key to a row of the same tenant; columns before the last have the same name in both tables."""
    theirs = ["tenant_id", *columns[:-1], "id"]
    return sa.ForeignKeyConstraint(
        ["tenant_id", *columns],
        [f"{table}.{name}" for name in theirs],
        ondelete="CASCADE" if cascade else None,
    )


def index(
    table: str, *columns: str, name: str | None = None, unique: bool = False, where: str | None = None
) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        name, table, list(columns), unique=unique, sqlite_where=condition, postgresql_where=condition
    )
