"""Which workers and dispatchers there are, and when each was seen last.

Revision: 2026_11_29_processes
Follows: 2026_11_29_signatures
"""

import sqlalchemy as sa
from alembic import op

from migrations.protection import isolate
from migrations.tables import JSON, TIME, UUID, index, must, one_of

revision = "2026_11_29_processes"
down_revision = "2026_11_29_signatures"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "processes",
        must("id"),
        sa.Column("tenant_id", UUID, nullable=True),
        *one_of("kind", "process_kind", "worker dispatcher"),
        must("host", sa.String(200)),
        must("about", JSON),
        must("started_at", TIME),
        must("seen_at", TIME),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
    )
    index("processes", "kind", "seen_at")
    isolate("processes")


def downgrade() -> None:
    op.drop_table("processes")
