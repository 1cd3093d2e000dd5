"""Which of a tenant's jobs comes first, and on which GPU a job runs: no two on one.

Revision: 2026_11_29_slots
Follows: 2026_11_29_redact_names
"""

import sqlalchemy as sa
from alembic import op

from migrations.tables import index, may

revision = "2026_11_29_slots"
down_revision = "2026_11_29_redact_names"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", may("slot", sa.String(200)))
    index("jobs", "slot", name="ix_jobs_running_slot", unique=True, where="state = 'running'")


def downgrade() -> None:
    op.drop_index("ix_jobs_running_slot", "jobs")
    op.drop_column("jobs", "slot")
    op.drop_column("jobs", "priority")
