"""What was found in a dataset's file, files that are only checked, and tenants that want personal data taken out.

Files of before were all taken, as they were.

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
    op.add_column("tenants", sa.Column("redact", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    op.drop_column("tenants", "redact")
    op.drop_column("uploads", "check_only")
    op.drop_column("datasets", "findings")
