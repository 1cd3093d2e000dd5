"""People who come with a token of the OIDC issuer.

Revision: 2026_11_29_people
Follows: 2026_11_29_kept_answers
"""

import sqlalchemy as sa
from alembic import op

from migrations.protection import isolate
from migrations.tables import TIME, may, must, table

revision = "2026_11_29_people"
down_revision = "2026_11_29_stored_files"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table(
        "people",
        must("issuer", sa.String(2000)),
        must("subject", sa.String(255)),
        may("name", sa.String(300)),
        must("created_at", TIME),
        must("last_seen_at", TIME),
    )
    isolate("people")


def downgrade() -> None:
    op.drop_table("people")
