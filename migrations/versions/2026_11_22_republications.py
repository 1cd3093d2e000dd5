"""Versions of schemas that were published again.

Revision: 2026_11_22_republications
Follows: 2026_11_22_models
"""

import sqlalchemy as sa
from alembic import op

from migrations.protection import append_only, isolate
from migrations.tables import TIME, may, must, table, within

revision = "2026_11_22_republications"
down_revision = "2026_11_22_models"
branch_labels = None
depends_on = None

TABLE = "schema_republications"


def upgrade() -> None:
    table(
        TABLE,
        *(must(name) for name in ("schema_id", "schema_version_id")),
        must("published_at", TIME),
        may("published_by"),
        within("schemas", "schema_id"),
        within("schema_versions", "schema_id", "schema_version_id"),
        sa.UniqueConstraint("schema_version_id", "published_at"),
    )
    isolate(TABLE)
    append_only(TABLE)


def downgrade() -> None:
    op.drop_table(TABLE)
