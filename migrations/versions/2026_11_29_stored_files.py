"""A row for every file that holds something of a tenant's, what follows from a deleted conversation, and tenants that
are gone.

Files of before are found through the rows that name them; suites are not, and are built again where they are asked for.

Revision: 2026_11_29_stored_files
Follows: 2026_11_29_kept_answers
"""

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID as Id
from uuid import uuid4

import sqlalchemy as sa
from alembic import op

from migrations.protection import append_only_again, isolate, only_removed
from migrations.tables import JSON, TIME, UUID, index, may, must, one_of, table

revision = "2026_11_29_stored_files"
down_revision = "2026_11_29_kept_answers"
branch_labels = None
depends_on = None

KINDS = "upload rejects snapshot suite report traces result checkpoint adapter log teachers_answers"
KEEP = {
    "keep_conversations_days": "conversations_are_kept_for_days",
    "keep_files_days": "files_are_kept_for_days",
}
REMOVABLE = ("job_events", "schema_republications")
_RUN_OF_SPENDING = "fk_teacher_spending_tenant_id_run_id"
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


class Found(NamedTuple):
    """A file that a row names."""

    tenant_id: Id
    kind: str
    key: str
    dataset_id: Id | None = None
    run_id: Id | None = None
    gate_id: Id | None = None


def upgrade() -> None:
    for column, rule in KEEP.items():
        # In SQL: both databases know this form, and SQLite takes a rule on a new column in no other.
        op.execute(
            f"ALTER TABLE tenants ADD COLUMN {column} INTEGER CONSTRAINT ck_tenants_{rule} CHECK ({column} > 0)"
        )
    for name, time in _times():
        op.add_column(name, time)
    table(
        "stored_files",
        *one_of("kind", "file_kind", KINDS),
        must("key", sa.String(500)),
        may("dataset_id"),
        may("run_id"),
        may("gate_id"),
        must("made_at", TIME),
        may("kept_until", TIME),
        may("without", JSON),
        sa.UniqueConstraint("key"),
    )
    index("stored_files", "tenant_id", "made_at", "id")
    for column in ("dataset_id", "run_id", "kept_until"):
        index("stored_files", column)
    isolate("stored_files")
    with op.batch_alter_table("teacher_spending") as batch:
        batch.drop_constraint(_RUN_OF_SPENDING, type_="foreignkey")
    for name in REMOVABLE:
        only_removed(name)
    _register()


def downgrade() -> None:
    """Which files there are is no longer known; what was deleted stays so."""
    for name in REMOVABLE:
        append_only_again(name)
    op.execute("DELETE FROM teacher_spending WHERE run_id NOT IN (SELECT id FROM runs)")
    with op.batch_alter_table("teacher_spending") as batch:
        batch.create_foreign_key(_RUN_OF_SPENDING, "runs", ["tenant_id", "run_id"], ["tenant_id", "id"])
    op.drop_table("stored_files")
    for name, time in reversed(_times()):
        op.drop_column(name, time.name)
    for column in KEEP:
        op.execute(f"ALTER TABLE tenants DROP COLUMN {column}")


def _times() -> list[tuple[str, sa.Column[Any]]]:
    return [
        ("tenants", may("deleted_at", TIME)),
        ("tenants", may("erased_at", TIME)),
        ("runs", may("lost_rows_at", TIME)),
        ("datasets", may("lost_rows_at", TIME)),
    ]


# -------------------------------------------------------------------------------------------- files that rows name


def _register() -> None:
    bind = op.get_bind()
    files = sa.table(
        "stored_files",
        *(sa.column(name, UUID) for name in ("id", "tenant_id", "dataset_id", "run_id", "gate_id")),
        sa.column("kind", sa.String()),
        sa.column("key", sa.String()),
        sa.column("made_at", TIME),
    )
    every = (*_of_datasets(), *_of_runs(), *_of_stages(), *_of_gates(), *_of_jobs())
    found = {one.key: one for one in every}
    now = sa.func.current_timestamp()
    for one in found.values():
        bind.execute(sa.insert(files).values(one._asdict() | {"id": uuid4(), "made_at": now}))


def _rows(name: str, *columns: str, **typed: Any) -> Iterator[Any]:
    """columns: ids. typed: others, with their types."""
    own = [sa.column(column, UUID) for column in ("id", "tenant_id", *columns)]
    own += [sa.column(column, kind) for column, kind in typed.items()]
    yield from op.get_bind().execute(sa.select(*own).select_from(sa.table(name))).all()


def _of_datasets() -> Iterator[Found]:
    for row in _rows("datasets", rejects_uri=sa.String()):
        if row.rejects_uri:
            yield Found(row.tenant_id, "rejects", row.rejects_uri, dataset_id=row.id)
    for row in _rows("uploads", "dataset_id", key=sa.String(), completed_at=TIME):
        if row.key and row.completed_at is not None:
            yield Found(row.tenant_id, "upload", row.key, dataset_id=row.dataset_id)


def _of_runs() -> Iterator[Found]:
    for row in _rows("runs", "dataset_id", snapshot_key=sa.String()):
        yield Found(row.tenant_id, "snapshot", row.snapshot_key, dataset_id=row.dataset_id)
    for row in _rows("model_versions", "run_id", adapter_key=sa.String(), stages=JSON):
        yield from _adapter(row, row.adapter_key)
        for stage in row.stages:
            yield from _of_stage(row, stage)


def _of_stages() -> Iterator[Found]:
    """Of runs that have not ended, or may go on."""
    event = sa.column("event", JSON)
    query = sa.select(sa.column("tenant_id", UUID), sa.column("run_id", UUID), event)
    query = query.select_from(sa.table("job_events")).where(event["event"].as_string() == "succeeded")
    for row in op.get_bind().execute(query).all():
        if row.run_id is not None:
            yield from _of_stage(row, row.event.get("result") or {})


def _of_stage(row: Any, made: dict[str, Any]) -> Iterator[Found]:
    """row: with the tenant's id and the run's."""
    if made.get("adapter_key"):
        yield from _adapter(row, made["adapter_key"])
    elif made.get("artifact_key"):
        yield Found(row.tenant_id, "traces", made["artifact_key"], run_id=row.run_id)


def _adapter(row: Any, key: str) -> Iterator[Found]:
    for name in _ADAPTER if key.endswith("/") else ("",):
        yield Found(row.tenant_id, "adapter", key + name, run_id=row.run_id)


def _of_gates() -> Iterator[Found]:
    runs = {row.id: row.run_id for row in _rows("model_versions", "run_id")}
    datasets = {row.id: row.dataset_id for row in _rows("runs", "dataset_id")}
    for row in _rows("gate_results", "model_version_id", report_key=sa.String()):
        if row.report_key:
            run_id = runs[row.model_version_id]
            for key in (row.report_key, row.report_key.removesuffix(".json") + ".html"):
                yield Found(row.tenant_id, "report", key, datasets[run_id], run_id, row.id)


def _of_jobs() -> Iterator[Found]:
    typed = {"kind": sa.String(), "epoch": sa.Integer(), "checkpoint_uri": sa.String()}
    typed |= {"inputs_hash": sa.String()}
    for row in _rows("jobs", "run_id", "subject_id", **typed):
        dataset_id = row.subject_id if row.kind == "validate_dataset" else None
        gate_id = row.subject_id if row.kind == "gate" else None
        for epoch in range(1, row.epoch + 1):
            key = f"jobs/{row.id}/{epoch}.log"
            yield Found(row.tenant_id, "log", key, dataset_id, row.run_id, gate_id)
        if row.checkpoint_uri:
            yield Found(row.tenant_id, "checkpoint", row.checkpoint_uri, run_id=row.run_id)
        if row.run_id is not None and row.inputs_hash:
            key = f"tenants/{row.tenant_id}/runs/{row.run_id}/done/{row.kind}-{row.inputs_hash}.json"
            yield Found(row.tenant_id, "result", key, run_id=row.run_id)
