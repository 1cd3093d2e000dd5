"""Which API key made another, and ends it with itself. Of those of before nobody knows: they end by themselves.

Revision: 2026_11_29_key_parents
Follows: 2026_11_29_audit_chain
"""

from alembic import op

from migrations.tables import index, may

revision = "2026_11_29_key_parents"
down_revision = "2026_11_29_audit_chain"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", may("parent_id"))
    index("api_keys", "parent_id", name="ix_api_keys_parent_id")


def downgrade() -> None:
    op.drop_index("ix_api_keys_parent_id", "api_keys")
    op.drop_column("api_keys", "parent_id")
