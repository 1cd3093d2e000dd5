"""What a gate has fitted so that confidences may be believed. Gates of before have nothing there.

Revision: 2026_11_23_calibration
Follows: 2026_11_22_fallback
"""

from alembic import op

from migrations.tables import JSON, may

revision = "2026_11_23_calibration"
down_revision = "2026_11_22_fallback"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("gate_results", may("calibration", JSON))


def downgrade() -> None:
    op.drop_column("gate_results", "calibration")
