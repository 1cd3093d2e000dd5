"""Who may be answered by a base that no gate has examined. Tenants of before: keys with the scope `playground`.

Revision: 2026_11_29_ungated
Follows: 2026_11_29_platform_role
"""

from alembic import op

revision = "2026_11_29_ungated"
down_revision = "2026_11_29_platform_role"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # In SQL: both databases know this form, and SQLite takes a rule on a new column in no other.
    op.execute(
        "ALTER TABLE tenants ADD COLUMN ungated VARCHAR(24) DEFAULT 'playground' NOT NULL "
        "CONSTRAINT ck_tenants_ungated CHECK (ungated IN ('playground', 'api', 'off'))"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE tenants DROP COLUMN ungated")
