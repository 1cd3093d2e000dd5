"""What decided a label, word for word. Labels of before do not say.

Revision: 2026_11_23_criterion
Follows: 2026_11_23_calibration
"""

import sqlalchemy as sa
from alembic import op

from migrations.tables import may

revision = "2026_11_23_criterion"
down_revision = "2026_11_23_calibration"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("labels", may("criterion", sa.String(2000)))


def downgrade() -> None:
    op.drop_column("labels", "criterion")
