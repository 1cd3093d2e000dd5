"""The signature that a conversation is compared by is kept. Older rows have theirs made when they are first compared.

Revision: 2026_11_29_signatures
Follows: 2026_11_29_draft_problems
"""

import sqlalchemy as sa
from alembic import op

from migrations.tables import may

revision = "2026_11_29_signatures"
down_revision = "2026_11_29_draft_problems"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("conversations", may("signature", sa.LargeBinary()))


def downgrade() -> None:
    op.drop_column("conversations", "signature")
