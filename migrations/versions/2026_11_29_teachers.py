"""What runs spend with the installation's teachers.

Revision: 2026_11_29_teachers
Follows: 2026_11_29_shares
"""

import sqlalchemy as sa
from alembic import op

from migrations.protection import isolate
from migrations.tables import index, must, within

revision = "2026_11_29_teachers"
down_revision = "2026_11_29_shares"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "teacher_spending",
        must("tenant_id"),
        must("run_id"),
        must("teacher", sa.String(50)),
        must("month", sa.Date()),
        must("granted_usd", sa.Double()),
        must("spent_usd", sa.Double()),
        sa.PrimaryKeyConstraint("run_id", "teacher"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        within("runs", "run_id"),
    )
    index("teacher_spending", "tenant_id", "month")
    isolate("teacher_spending")


def downgrade() -> None:
    op.drop_table("teacher_spending")
