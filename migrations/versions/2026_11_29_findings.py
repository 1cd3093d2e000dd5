"""What was found in a dataset's file, and files that are only checked. Files of before were all taken.

Revision: 2026_11_29_findings
Follows: 2026_11_29_answer_tokens
"""

import sqlalchemy as sa
from alembic import op

from migrations.tables import JSON, may

revision = "2026_11_29_findings"
down_revision = "2026_11_29_answer_tokens"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("datasets", may("findings", JSON))
    op.add_column("uploads", sa.Column("check_only", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    op.drop_column("uploads", "check_only")
    op.drop_column("datasets", "findings")
