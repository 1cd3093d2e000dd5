"""Kept answers count in their tenant's quota of bytes.

Revision: 2026_11_29_answer_bytes
Follows: 2026_11_29_slots
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from migrations.tables import JSON, TEXT, UUID

revision = "2026_11_29_answer_bytes"
down_revision = "2026_11_29_slots"
branch_labels = None
depends_on = None

_BEFORE = ("upload", "conversations", "draft", "versions")
_RULE = "ck_held_bytes_held_kind"
_AT_ONCE = 500
_ID: sa.ColumnClause[Any] = sa.column("id", UUID)
_SIZE: sa.ColumnClause[int] = sa.column("size_bytes", sa.Integer())
_WORDS: list[sa.ColumnClause[Any]] = [
    sa.column("messages", JSON),
    sa.column("reasoning", TEXT),
    sa.column("evidence", JSON),
    sa.column("extra", JSON),
]
_ANSWERS = sa.table("kept_answers", _ID, _SIZE, *_WORDS)


def upgrade() -> None:
    op.add_column("kept_answers", sa.Column("size_bytes", sa.Integer(), server_default="0", nullable=False))
    _count()
    with op.batch_alter_table("kept_answers") as batch:  # from here on whoever adds one says its size
        batch.alter_column("size_bytes", server_default=None, existing_type=sa.Integer())
    _allow((*_BEFORE, "answers"))
    op.execute(
        "INSERT INTO held_bytes (tenant_id, kind, holder, size_bytes) "
        "SELECT tenant_id, 'answers', tenant_id, SUM(size_bytes) FROM kept_answers GROUP BY tenant_id"
    )


def downgrade() -> None:
    op.execute("DELETE FROM held_bytes WHERE kind = 'answers'")
    _allow(_BEFORE)
    op.drop_column("kept_answers", "size_bytes")


def _count() -> None:
    """As `app.answers.repository.size_of` does, so that what is given back later is what was taken."""
    sized = (
        sa.update(_ANSWERS)
        .where(sa.bindparam("of", type_=UUID) == _ID)
        .values(size_bytes=sa.bindparam("size"))
    )
    for rows in _pages():
        sizes = [{"of": row[0], "size": _size_of(row[1:])} for row in rows]
        op.get_bind().execute(sized, sizes)


def _pages() -> Iterator[Sequence[Any]]:
    page = sa.select(_ID, *_WORDS).order_by(_ID).limit(_AT_ONCE)
    rows = op.get_bind().execute(page).all()
    while rows:
        yield rows
        rows = op.get_bind().execute(page.where(rows[-1].id < _ID)).all()


def _size_of(words: Sequence[Any]) -> int:
    return len(json.dumps(list(words), ensure_ascii=False, separators=(",", ":")).encode())


def _allow(kinds: tuple[str, ...]) -> None:
    words = ", ".join(f"'{kind}'" for kind in kinds)
    with op.batch_alter_table("held_bytes") as batch:
        batch.drop_constraint(op.f(_RULE), type_="check")
        batch.create_check_constraint(op.f(_RULE), f"kind IN ({words})")
