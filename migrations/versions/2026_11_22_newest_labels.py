"""The newest label of a conversation: an index that no statistics can make worse than that of the tenant.

Revision: 2026_11_22_newest_labels
Follows: 2026_11_22_republications
"""

from alembic import op

from migrations.tables import index

revision = "2026_11_22_newest_labels"
down_revision = "2026_11_22_republications"
branch_labels = None
depends_on = None

BEFORE = ("conversation_id", "created_at", "id")
AFTER = ("tenant_id", *BEFORE)


def upgrade() -> None:
    index("labels", *AFTER)
    _drop(BEFORE)


def downgrade() -> None:
    index("labels", *BEFORE)
    _drop(AFTER)


def _drop(columns: tuple[str, ...]) -> None:
    op.drop_index(f"ix_labels_{'_'.join(columns)}", "labels")
