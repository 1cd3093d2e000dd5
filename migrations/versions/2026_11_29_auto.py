"""A tenant's mode may be auto.

Revision: 2026_11_29_auto
Follows: 2026_11_29_ungated
"""

from alembic import op

revision = "2026_11_29_auto"
down_revision = "2026_11_29_ungated"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _allow("'reasoned', 'fast', 'auto'", "mode")


def downgrade() -> None:
    """Who wanted both gets the one that gives reasons."""
    _allow("'reasoned', 'fast'", "CASE mode WHEN 'auto' THEN 'reasoned' ELSE mode END")


def _allow(words: str, value: str) -> None:
    """In the place of the column comes one with this rule: SQLite changes no rule, and takes one on a new column."""
    op.execute("ALTER TABLE tenants RENAME COLUMN mode TO mode_before")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE tenants DROP CONSTRAINT ck_tenants_mode")
    op.execute(
        "ALTER TABLE tenants ADD COLUMN mode VARCHAR(24) DEFAULT 'reasoned' NOT NULL "
        f"CONSTRAINT ck_tenants_mode CHECK (mode IN ({words}))"
    )
    op.execute(f"UPDATE tenants SET mode = {value.replace('mode', 'mode_before')}")
    op.execute("ALTER TABLE tenants DROP COLUMN mode_before")
