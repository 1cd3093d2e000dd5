"""Kept answers count in their tenant's quota of bytes.

Revision: 2026_11_29_answer_bytes
Follows: 2026_11_29_slots
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_29_answer_bytes"
down_revision = "2026_11_29_slots"
branch_labels = None
depends_on = None

_BEFORE = ("upload", "conversations", "draft", "versions")
_RULE = "ck_held_bytes_held_kind"


def upgrade() -> None:
    column = sa.Column("size_bytes", sa.Integer(), server_default="0", nullable=False)
    op.add_column("kept_answers", column)
    op.execute(
        "UPDATE kept_answers SET size_bytes = LENGTH(CAST(messages AS TEXT)) + COALESCE(LENGTH(reasoning), 0)"
    )
    _allow((*_BEFORE, "answers"))
    op.execute(
        "INSERT INTO held_bytes (tenant_id, kind, holder, size_bytes) "
        "SELECT tenant_id, 'answers', tenant_id, SUM(size_bytes) FROM kept_answers GROUP BY tenant_id"
    )


def downgrade() -> None:
    op.execute("DELETE FROM held_bytes WHERE kind = 'answers'")
    _allow(_BEFORE)
    op.drop_column("kept_answers", "size_bytes")


def _allow(kinds: tuple[str, ...]) -> None:
    words = ", ".join(f"'{kind}'" for kind in kinds)
    with op.batch_alter_table("held_bytes") as batch:
        batch.drop_constraint(op.f(_RULE), type_="check")
        batch.create_check_constraint(op.f(_RULE), f"kind IN ({words})")
