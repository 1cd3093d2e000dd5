"""Audit events in chains. Those of before are linked in the order of their times.

Revision: 2026_11_29_audit_chain
Follows: 2026_11_29_teachers
"""

import sqlalchemy as sa
from alembic import op

from migrations.protection import append_only, isolate
from migrations.tables import COUNT, SHA256, TIME, index, must, table

revision = "2026_11_29_audit_chain"
down_revision = "2026_11_29_teachers"
branch_labels = None
depends_on = None


def upgrade() -> None:
    index("audit_events", "at")
    table(
        "audit_links",
        must("chain", sa.String(36)),
        must("number", COUNT),
        must("previous_sha256", SHA256),
        must("sha256", SHA256),
        must("linked_at", TIME),
        sa.UniqueConstraint("chain", "number"),
        sa.ForeignKeyConstraint(["id"], ["audit_events.id"]),
        of_platform_too=True,
    )
    index("audit_links", "linked_at")
    isolate("audit_links")
    append_only("audit_links")


def downgrade() -> None:
    op.drop_table("audit_links")
    op.drop_index("ix_audit_events_at", "audit_events")
