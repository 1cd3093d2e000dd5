"""Tenants that want names taken out too, where personal data is.

Those of before keep names, as they did.

Revision: 2026_11_29_redact_names
Follows: 2026_11_29_kept_answers
"""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_29_redact_names"
down_revision = "2026_11_29_triggers"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "tenants", sa.Column("redact_names", sa.Boolean(), server_default=sa.false(), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("tenants", "redact_names")
