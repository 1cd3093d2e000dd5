"""The mode in which a gate asks, and in which a tenant's models are measured by default. Those of before: reasoned.

Revision: 2026_11_29_mode
Follows: 2026_11_29_findings
"""

from alembic import op

from migrations.tables import index

revision = "2026_11_29_mode"
down_revision = "2026_11_29_findings"
branch_labels = None
depends_on = None

_FINAL = ("model_version_id", "schema_version_id", "policy_sha256")
_WHERE = "verdict IN ('passed', 'failed')"


def upgrade() -> None:
    for table in ("gate_results", "tenants"):
        # In SQL: both databases know this form, and SQLite takes a rule on a new column in no other.
        op.execute(
            f"ALTER TABLE {table} ADD COLUMN mode VARCHAR(24) DEFAULT 'reasoned' NOT NULL "
            f"CONSTRAINT ck_{table}_mode CHECK (mode IN ('reasoned', 'fast'))"
        )
    op.drop_index("uq_gate_results_final", "gate_results")
    index("gate_results", *_FINAL, "mode", name="uq_gate_results_final", unique=True, where=_WHERE)


def downgrade() -> None:
    """What was measured in another mode goes: nothing that stays could say how its model must be asked."""
    for table, column in (("served_edits", "gate_result_id"), ("deployments", "gate_result_id")):
        other = f"SELECT 1 FROM gate_results AS g WHERE g.id = {table}.{column} AND g.mode <> 'reasoned'"
        if op.get_bind().exec_driver_sql(f"SELECT 1 FROM {table} WHERE EXISTS ({other}) LIMIT 1").first():
            raise RuntimeError("a deployment serves in mode fast, which the version before does not know")
    op.execute("DELETE FROM gate_results WHERE mode <> 'reasoned'")
    op.drop_index("uq_gate_results_final", "gate_results")
    index("gate_results", *_FINAL, name="uq_gate_results_final", unique=True, where=_WHERE)
    for table in ("gate_results", "tenants"):
        op.execute(f"ALTER TABLE {table} DROP COLUMN mode")
