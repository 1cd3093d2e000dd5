"""Answers that are kept, for as long as the tenant says, and what may be known of a conversation beside its messages.

Those of before know nothing beside it, and no tenant of before keeps answers.

Revision: 2026_11_29_kept_answers
Follows: 2026_11_29_label_free
"""

import sqlalchemy as sa
from alembic import op

from migrations.protection import isolate
from migrations.tables import JSON, TEXT, TIME, index, may, must, one_of, table, within

revision = "2026_11_29_kept_answers"
down_revision = "2026_11_29_label_free"
branch_labels = None
depends_on = None

REFERENCE = sa.String(256)
_LOOKED_UP = {"customer": "customer_reference", "reference": "conversation_reference"}


def upgrade() -> None:
    # In SQL: both databases know this form, and SQLite takes a rule on a new column in no other.
    op.execute(
        "ALTER TABLE tenants ADD COLUMN keep_answers_days INTEGER "
        "CONSTRAINT ck_tenants_answers_are_kept_for_days CHECK (keep_answers_days > 0)"
    )
    for attribute in _attributes():
        op.add_column("conversations", attribute)
    for name, column in (*_LOOKED_UP.items(), ("external", "external_id")):
        index("conversations", "tenant_id", column, name=f"ix_conversations_{name}")
    table(
        "kept_answers",
        must("created_at", TIME),
        must("expires_at", TIME),
        must("schema_id"),
        must("schema_version_id"),
        may("deployment_id"),
        may("model_version_id"),
        must("messages", JSON),
        *_attributes(),
        *one_of("mode", "mode", "reasoned fast"),
        may("category_key", sa.String(128)),
        may("confidence", sa.Double()),
        may("probabilities", JSON),
        may("label_mass", sa.Double()),
        must("abstained", sa.Boolean()),
        must("degraded", sa.Boolean()),
        must("provisional", sa.Boolean()),
        may("failure", sa.String(64)),
        may("reasoning", TEXT),
        may("evidence", JSON),
        may("decided_by", JSON),
        may("feedback", JSON),
        within("schemas", "schema_id"),
        within("schema_versions", "schema_id", "schema_version_id"),
    )
    index("kept_answers", "tenant_id", "created_at", "id")
    index("kept_answers", "expires_at")
    for name, column in _LOOKED_UP.items():
        index("kept_answers", "tenant_id", column, name=f"ix_kept_answers_{name}")
    isolate("kept_answers")


def downgrade() -> None:
    """Kept answers go."""
    op.drop_table("kept_answers")
    for name in (*_LOOKED_UP, "external"):
        op.drop_index(f"ix_conversations_{name}", "conversations")
    for attribute in _attributes():
        op.drop_column("conversations", attribute.name)
    op.execute("ALTER TABLE tenants DROP COLUMN keep_answers_days")


def _attributes() -> list[sa.Column[object]]:
    return [
        may("language", sa.String(35)),
        may("channel", sa.String(64)),
        may("time", TIME),
        may("customer_reference", REFERENCE),
        may("conversation_reference", REFERENCE),
        may("extra", JSON),
    ]
