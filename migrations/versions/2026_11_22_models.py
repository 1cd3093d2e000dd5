"""Runs and what they make, gates, deployments, and the jobs behind them.

Revision: 2026_11_22_models
Follows: 2026_11_22_data
"""

import sqlalchemy as sa
from alembic import op

from migrations.protection import append_only, isolate, on_postgresql
from migrations.tables import (
    COUNT,
    GROWING,
    JSON,
    SHA256,
    TEXT,
    TIME,
    index,
    may,
    must,
    one_of,
    table,
    within,
)

revision = "2026_11_22_models"
down_revision = "2026_11_22_data"
branch_labels = None
depends_on = None

TABLES = ["runs", "model_versions", "jobs", "job_events", "gate_results", "deployments", "served_edits"]
FINAL = "verdict IN ('passed', 'failed')"
VERDICTS = "passed failed incomplete"


def upgrade() -> None:
    _runs()
    _jobs()
    _gates()
    _deployments()
    for name in TABLES:
        isolate(name)
    append_only("job_events")


def downgrade() -> None:
    if on_postgresql():
        op.drop_constraint("fk_runs_tenant_id_model_version_id", "runs")
    for name in reversed(TABLES):
        op.drop_table(name)


def _runs() -> None:
    made = ["tenant_id", "model_version_id"], ["model_versions.tenant_id", "model_versions.id"]
    table(
        "runs",
        *(must(name) for name in ("schema_version_id", "dataset_id")),
        must("snapshot_key", TEXT),
        must("snapshot_sha256", SHA256),
        may("preset", sa.String(50)),
        must("settings", JSON),
        must("seed", COUNT),
        must("base", sa.String(500)),
        *one_of("state", "run_state", "queued running succeeded failed cancelled"),
        may("created_by"),
        must("created_at", TIME),
        may("finished_at", TIME),
        may("error", JSON),
        may("model_version_id"),
        within("schema_versions", "schema_version_id"),
        within("datasets", "dataset_id"),
        # SQLite cannot add a key later, and does not mind one to a table that is not there yet.
        *(() if on_postgresql() else (sa.ForeignKeyConstraint(*made),)),
    )
    index("runs", "tenant_id", "created_at", "id")
    table(
        "model_versions",
        *(must(name) for name in ("run_id", "schema_version_id")),
        *(must(name, SHA256) for name in ("base_sha256", "adapter_sha256")),
        must("adapter_key", TEXT),
        must("stages", JSON),
        must("created_at", TIME),
        within("runs", "run_id"),
        within("schema_versions", "schema_version_id"),
        sa.UniqueConstraint("tenant_id", "adapter_sha256", "run_id"),
    )
    index("model_versions", "tenant_id", "created_at", "id")
    if on_postgresql():
        columns = ["tenant_id", "model_version_id"], ["tenant_id", "id"]
        op.create_foreign_key(None, "runs", "model_versions", *columns)


def _jobs() -> None:
    table(
        "jobs",
        *one_of("kind", "job_kind", "validate_dataset traces sft distill rl gate deploy"),
        must("subject_id"),
        may("run_id"),
        must("payload", JSON),
        *one_of("state", "job_state", "blocked queued running succeeded failed cancelled"),
        *(must(name, sa.Integer()) for name in ("seq", "attempt", "max_attempts", "losses", "epoch")),
        may("owner", sa.String(200)),
        *(may(name, TIME) for name in ("lease_until", "heartbeat_at", "started_at", "finished_at")),
        *(may(name, TIME) for name in ("published_at", "cancel_requested_at")),
        *(must(name, TIME) for name in ("available_at", "created_at")),
        *(may(name, JSON) for name in ("progress", "error")),
        may("checkpoint_uri", TEXT),
        may("inputs_hash", SHA256),
        within("runs", "run_id"),
        sa.CheckConstraint("state <> 'running' OR owner IS NOT NULL", name="running_has_an_owner"),
    )
    index("jobs", "run_id", "seq")
    index("jobs", "subject_id")
    index("jobs", "available_at", name="ix_jobs_open", where="state IN ('queued', 'running')")
    op.create_table(
        "job_events",
        must("id", GROWING),
        *(must(name) for name in ("tenant_id", "job_id")),
        may("run_id"),
        must("at", TIME),
        must("event", JSON),
        sa.PrimaryKeyConstraint("id"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        within("jobs", "job_id"),
        within("runs", "run_id"),
        sqlite_autoincrement=True,
    )
    index("job_events", "job_id", "id")
    index("job_events", "run_id", "id")


def _gates() -> None:
    pair = ("model_version_id", "schema_version_id")
    table(
        "gate_results",
        *(must(name) for name in pair),
        must("policy_sha256", SHA256),
        *one_of("state", "gate_state", "queued running done failed"),
        *one_of("verdict", "verdict", VERDICTS, nullable=True),
        must("reasons", JSON),
        may("report_key", TEXT),
        must("created_at", TIME),
        may("finished_at", TIME),
        within("model_versions", "model_version_id"),
        within("schema_versions", "schema_version_id"),
        sa.UniqueConstraint("id", *pair, "verdict"),
        sa.CheckConstraint("(state = 'done') = (verdict IS NOT NULL)", name="done_has_a_verdict"),
    )
    index("gate_results", "tenant_id", "created_at", "id")
    index("gate_results", *pair, "policy_sha256", name="uq_gate_results_final", unique=True, where=FINAL)


def _deployments() -> None:
    proof = ("model_version_id", "schema_version_id", "verdict")
    table(
        "deployments",
        *(must(name) for name in ("schema_id", "gate_result_id", "model_version_id", "schema_version_id")),
        *one_of("verdict", "verdict", VERDICTS),
        *one_of("state", "deployment_state", "pending loading live retired failed"),
        may("replaces_id"),
        may("created_by"),
        must("created_at", TIME),
        *(may(name, TIME) for name in ("activated_at", "retired_at")),
        may("problem", TEXT),
        sa.ForeignKeyConstraint(
            ["gate_result_id", *proof],
            [f"gate_results.{name}" for name in ("id", *proof)],
            name="fk_deployments_passed_gate",
        ),
        sa.CheckConstraint("verdict = 'passed'", name="gate_has_passed"),
        within("gate_results", "gate_result_id"),
        within("model_versions", "model_version_id"),
        within("schema_versions", "schema_id", "schema_version_id"),
        within("deployments", "replaces_id"),
    )
    index("deployments", "tenant_id", "created_at", "id")
    index("deployments", "schema_id", name="uq_deployments_live", unique=True, where="state = 'live'")
    table(
        "served_edits",
        *(must(name) for name in ("schema_id", "deployment_id", "schema_version_id")),
        may("gate_result_id"),
        *one_of("state", "edit_state", "waiting provisional confirmed reverted"),
        must("created_at", TIME),
        may("decided_at", TIME),
        within("schemas", "schema_id"),
        within("deployments", "deployment_id"),
        within("schema_versions", "schema_id", "schema_version_id"),
        within("gate_results", "gate_result_id"),
    )
    undecided = "state IN ('waiting', 'provisional')"
    index("served_edits", "schema_id", name="uq_served_edits_open", unique=True, where=undecided)
