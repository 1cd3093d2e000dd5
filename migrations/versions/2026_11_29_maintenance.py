"""Whether jobs may begin: a row says that they may not.

Revision: 2026_11_29_maintenance
Follows: 2026_11_29_processes
"""

import sqlalchemy as sa
from alembic import op

from migrations.protection import isolate
from migrations.tables import TIME, UUID, must

revision = "2026_11_29_maintenance"
down_revision = "2026_11_29_processes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "maintenance",
        must("id", sa.Integer()),
        sa.Column("tenant_id", UUID, nullable=True),
        must("reason", sa.String(500)),
        must("began_at", TIME),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
    )
    isolate("maintenance")


def downgrade() -> None:
    op.drop_table("maintenance")
