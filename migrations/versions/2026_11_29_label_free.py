"""What a gate has measured without labels, where they are what it lacks.

Revision: 2026_11_29_label_free
Follows: 2026_11_29_auto
"""

import sqlalchemy as sa
from alembic import op

from migrations.tables import JSON

revision = "2026_11_29_label_free"
down_revision = "2026_11_29_auto"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gate_results", sa.Column("label_free", JSON))


def downgrade() -> None:
    op.drop_column("gate_results", "label_free")
