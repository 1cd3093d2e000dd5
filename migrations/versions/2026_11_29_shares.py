"""What a tenant holds: bytes of whatever has some, and how long workers were busy with its jobs.

Files of before are counted as they were; conversations and drafts of before count from their next change on.

Revision: 2026_11_29_shares
Follows: 2026_11_29_mode
"""

import sqlalchemy as sa
from alembic import op

from migrations.protection import isolate
from migrations.tables import COUNT, index, must, one_of

revision = "2026_11_29_shares"
down_revision = "2026_11_29_mode"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("worked_s", sa.Double(), server_default="0", nullable=False))
    index("jobs", "tenant_id", "kind", "started_at")
    op.create_table(
        "held_bytes",
        must("tenant_id"),
        *one_of("kind", "held_kind", "upload conversations draft versions"),
        must("holder"),
        must("size_bytes", COUNT),
        sa.PrimaryKeyConstraint("tenant_id", "kind", "holder"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
    )
    isolate("held_bytes")
    announced = "CASE WHEN total_bytes > received_bytes THEN total_bytes ELSE received_bytes END"
    op.execute(
        "INSERT INTO held_bytes (tenant_id, kind, holder, size_bytes) "
        f"SELECT tenant_id, 'upload', dataset_id, SUM({announced}) FROM uploads GROUP BY tenant_id, dataset_id"
    )


def downgrade() -> None:
    op.drop_table("held_bytes")
    op.drop_index("ix_jobs_tenant_id_kind_started_at", "jobs")
    op.drop_column("jobs", "worked_s")
