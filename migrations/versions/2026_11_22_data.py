"""Tenants, their keys, schemas and data, and what is kept about requests.

Revision: 2026_11_22_data
Follows: nothing
"""

import sqlalchemy as sa
from alembic import op

from migrations.protection import append_only, drop_refusal, isolate
from migrations.tables import COUNT, JSON, SHA256, TEXT, TIME, index, may, must, one_of, table, within

revision = "2026_11_22_data"
down_revision = None
branch_labels = None
depends_on = None

TABLES = [
    "tenants",
    "api_keys",
    "audit_events",
    "idempotency_keys",
    "usage_days",
    "schemas",
    "schema_versions",
    "datasets",
    "uploads",
    "conversations",
    "conversation_bands",
    "labels",
]


def upgrade() -> None:
    _tenants()
    _records()
    _schemas()
    _datasets()
    for name in TABLES:
        isolate(name, "id" if name == "tenants" else "tenant_id")
    append_only("audit_events")


def downgrade() -> None:
    for name in reversed(TABLES):
        op.drop_table(name)
    drop_refusal()


def _tenants() -> None:
    op.create_table(
        "tenants",
        must("id"),
        must("name", sa.String(200)),
        *one_of("serve_edits", "serve_edits", "after_gate at_once"),
        may("abstain_below", sa.Double()),
        must("upload_quota_bytes", COUNT),
        must("created_at", TIME),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.CheckConstraint(
            "abstain_below >= 0 AND abstain_below <= 1", name="abstain_below_is_a_probability"
        ),
    )
    table(
        "api_keys",
        must("name", sa.String(200)),
        must("prefix", sa.String(32)),
        must("digest", SHA256),
        must("scopes", JSON),
        must("created_at", TIME),
        *(may(name, TIME) for name in ("expires_at", "revoked_at", "last_used_at")),
        sa.UniqueConstraint("prefix"),
        of_platform_too=True,
    )


def _records() -> None:
    table(
        "audit_events",
        may("actor_key_id"),
        must("action", sa.String(100)),
        must("subject", sa.String(200)),
        must("detail", JSON),
        must("at", TIME),
        of_platform_too=True,
    )
    index("audit_events", "tenant_id", "at", "id")
    table(
        "idempotency_keys",
        must("key", sa.String(200)),
        must("route", sa.String(200)),
        must("body_sha256", SHA256),
        may("status_code", sa.Integer()),
        may("response", JSON),
        must("created_at", TIME),
        sa.UniqueConstraint("tenant_id", "key", "route"),
    )
    index("idempotency_keys", "created_at")
    op.create_table(
        "usage_days",
        must("tenant_id"),
        must("day", sa.Date()),
        *(must(name, COUNT) for name in ("requests", "prompt_tokens", "completion_tokens")),
        sa.PrimaryKeyConstraint("tenant_id", "day"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
    )


def _schemas() -> None:
    table(
        "schemas",
        must("name", sa.String(200)),
        must("draft", JSON),
        must("draft_revision", sa.Integer()),
        must("created_at", TIME),
        must("updated_at", TIME),
        sa.UniqueConstraint("tenant_id", "name"),
    )
    table(
        "schema_versions",
        must("schema_id"),
        must("number", sa.Integer()),
        must("content", JSON),
        must("sha256", SHA256),
        must("published_at", TIME),
        may("published_by"),
        within("schemas", "schema_id"),
        sa.UniqueConstraint("tenant_id", "schema_id", "id"),
        sa.UniqueConstraint("schema_id", "number"),
        sa.UniqueConstraint("schema_id", "sha256"),
        sa.CheckConstraint("number >= 1", name="number_is_positive"),
    )


def _datasets() -> None:
    states = "empty uploading uploaded validating ready failed"
    table(
        "datasets",
        must("schema_id"),
        must("name", sa.String(200)),
        *one_of("state", "dataset_state", states),
        must("counts", JSON),
        may("problem", JSON),
        may("rejects_uri", TEXT),
        must("created_at", TIME),
        within("schemas", "schema_id"),
    )
    index("datasets", "tenant_id", "created_at", "id")
    table(
        "uploads",
        must("dataset_id"),
        must("media_type", sa.String(100)),
        may("encoding", sa.String(20)),
        must("received_bytes", COUNT),
        may("total_bytes", COUNT),
        may("sha256", SHA256),
        must("key", TEXT),
        must("created_at", TIME),
        may("completed_at", TIME),
        within("datasets", "dataset_id", cascade=True),
        sa.CheckConstraint("received_bytes >= 0", name="received_is_not_negative"),
    )
    index("uploads", "dataset_id")
    _conversations()


def _conversations() -> None:
    table(
        "conversations",
        must("dataset_id"),
        must("external_id", sa.String(256)),
        must("messages", JSON),
        must("text_sha256", SHA256),
        must("group_id", sa.String(64)),
        *one_of("split", "split", "train validation calibration test"),
        must("created_at", TIME),
        within("datasets", "dataset_id", cascade=True),
        sa.UniqueConstraint("dataset_id", "external_id"),
    )
    index("conversations", "dataset_id", "created_at", "id")
    index("conversations", "dataset_id", "text_sha256")
    index("conversations", "dataset_id", "group_id")
    op.create_table(
        "conversation_bands",
        must("tenant_id"),
        must("conversation_id"),
        must("band", COUNT),
        must("dataset_id"),
        sa.PrimaryKeyConstraint("conversation_id", "band"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        within("conversations", "conversation_id", cascade=True),
        within("datasets", "dataset_id", cascade=True),
    )
    index("conversation_bands", "dataset_id", "band")
    table(
        "labels",
        must("conversation_id"),
        must("schema_id"),
        may("schema_version_id"),
        may("category_key", sa.String(128)),
        *one_of("source", "label_source", "import reviewer correction"),
        may("created_by"),
        must("created_at", TIME),
        within("conversations", "conversation_id", cascade=True),
        within("schemas", "schema_id"),
        within("schema_versions", "schema_id", "schema_version_id"),
    )
    index("labels", "conversation_id", "created_at", "id")
