"""How far a tenant's answers may fall back where its deployed model cannot answer.

Revision: 2026_11_22_fallback
Follows: 2026_11_22_newest_labels
"""

from alembic import op

revision = "2026_11_22_fallback"
down_revision = "2026_11_22_newest_labels"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # In SQL: both databases know this form, and SQLite takes a rule on a new column in no other.
    op.execute(
        "ALTER TABLE tenants ADD COLUMN fallback VARCHAR(24) DEFAULT 'none' NOT NULL "
        "CONSTRAINT ck_tenants_fallback CHECK (fallback IN ('none', 'previous', 'base'))"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE tenants DROP COLUMN fallback")
