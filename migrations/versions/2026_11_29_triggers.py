"""When runs begin by themselves, why a run began, how often what was answered, and how much memory a job needs.

Revision: 2026_11_29_triggers
Follows: 2026_11_29_kept_answers
"""

import sqlalchemy as sa
from alembic import op

from migrations.protection import isolate
from migrations.tables import COUNT, JSON, TEXT, TIME, index, may, must, one_of, table, within

revision = "2026_11_29_triggers"
down_revision = "2026_11_29_people"
branch_labels = None
depends_on = None

KINDS = "by_hand schedule corrections drift none_rate label_mass failed_edit"
OUTCOMES = "started not_met held_back refused"


def upgrade() -> None:
    table(
        "triggers",
        must("name", sa.String(100)),
        must("schema_id"),
        must("dataset_id"),
        *one_of("kind", "trigger_kind", KINDS),
        must("rule", JSON),
        must("preset", sa.String(50)),
        must("seed", COUNT),
        must("cool_down_h", sa.Integer()),
        must("budget_window_h", sa.Integer()),
        must("budget_runs", sa.Integer()),
        may("budget_gpu_s", sa.Double()),
        sa.Column("paused", sa.Boolean(), nullable=False, server_default=sa.false()),
        may("created_by"),
        must("created_at", TIME),
        must("counts_from", TIME),
        must("checks", COUNT),
        must("next_check_at", TIME),
        may("checked_at", TIME),
        *one_of("outcome", "trigger_outcome", OUTCOMES, nullable=True),
        may("reason", TEXT),
        may("figures", JSON),
        may("held_at", TIME),
        may("held_reason", TEXT),
        may("started_at", TIME),
        may("run_id"),
        sa.UniqueConstraint("tenant_id", "name"),
        within("schemas", "schema_id"),
        within("datasets", "dataset_id"),
        sa.CheckConstraint("cool_down_h >= 1", name="it_cools_down"),
        sa.CheckConstraint("budget_runs >= 1 AND budget_window_h >= 1", name="it_has_a_budget"),
    )
    index("triggers", "next_check_at")
    index("triggers", "tenant_id", "created_at", "id")
    isolate("triggers")
    op.create_table(
        "answer_hours",
        must("tenant_id"),
        must("model_version_id"),
        must("schema_version_id"),
        must("hour", TIME),
        must("outcome", sa.String(128)),
        must("schema_id"),
        must("answers", COUNT),
        must("masses", COUNT),
        must("mass_sum", sa.Double()),
        must("mass_squares", sa.Double()),
        sa.PrimaryKeyConstraint("tenant_id", "model_version_id", "schema_version_id", "hour", "outcome"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
    )
    index("answer_hours", "tenant_id", "schema_id", "hour")
    index("answer_hours", "hour")
    isolate("answer_hours")
    op.add_column("jobs", may("needs_bytes", COUNT))
    op.add_column("runs", may("trigger_id"))
    op.add_column("runs", may("trigger_record", JSON))
    index("runs", "trigger_id")


def downgrade() -> None:
    op.drop_index("ix_runs_trigger_id", "runs")
    op.drop_column("runs", "trigger_record")
    op.drop_column("runs", "trigger_id")
    op.drop_column("jobs", "needs_bytes")
    op.drop_table("answer_hours")
    op.drop_table("triggers")
