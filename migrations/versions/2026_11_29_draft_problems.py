"""What is wrong with a draft is kept with it. Drafts of before are looked through when they are read.

Revision: 2026_11_29_draft_problems
Follows: 2026_11_29_key_parents
"""

from alembic import op

from migrations.tables import JSON, may

revision = "2026_11_29_draft_problems"
down_revision = "2026_11_29_key_parents"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("schemas", may("draft_problems", JSON))


def downgrade() -> None:
    op.drop_column("schemas", "draft_problems")
