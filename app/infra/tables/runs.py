from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, CreatedAt, Id, Sha256, TenantOwned, choice, within_tenant


class RunState(StrEnum):
    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


class Run(TenantOwned, Base):
    """snapshot: the dataset as it was frozen for this run, in storage.

    lost_rows_at: when a conversation of the snapshot was deleted last; a run that has not ended then ends.
    trigger_id: no foreign key, since what was begun outlives the trigger. trigger_record: why it began, in its words.
    """

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("schema_versions", "schema_version_id"),
        within_tenant("datasets", "dataset_id"),
        # Runs and model versions name each other, so one of the two keys is added when both tables are there.
        ForeignKeyConstraint(
            ["tenant_id", "model_version_id"],
            ["model_versions.tenant_id", "model_versions.id"],
            use_alter=True,
        ),
        Index(None, "tenant_id", "created_at", "id"),
        Index(None, "trigger_id"),
    )

    id: Mapped[Id]
    schema_version_id: Mapped[UUID]
    dataset_id: Mapped[UUID]
    snapshot_key: Mapped[str]
    snapshot_sha256: Mapped[Sha256]
    preset: Mapped[str | None] = mapped_column(String(50))
    settings: Mapped[dict[str, Any]]
    seed: Mapped[int] = mapped_column(BigInteger, default=0)
    base: Mapped[str] = mapped_column(String(500))
    state: Mapped[RunState] = mapped_column(choice(RunState), default=RunState.queued)
    created_by: Mapped[UUID | None]
    trigger_id: Mapped[UUID | None]
    trigger_record: Mapped[dict[str, Any] | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
    error: Mapped[dict[str, Any] | None]
    model_version_id: Mapped[UUID | None]
    lost_rows_at: Mapped[datetime | None]


class ModelVersion(TenantOwned, Base):
    """stages: of each stage, in order, its kind, artifact key, sha256 and metrics.

    answer_tokens: how long its answers may be by `evaluation.contract.budget` as it was trained.
    """

    __tablename__ = "model_versions"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "adapter_sha256", "run_id"),
        within_tenant("runs", "run_id"),
        within_tenant("schema_versions", "schema_version_id"),
        Index(None, "tenant_id", "created_at", "id"),
    )

    id: Mapped[Id]
    run_id: Mapped[UUID]
    schema_version_id: Mapped[UUID]
    base_sha256: Mapped[Sha256]
    adapter_sha256: Mapped[Sha256]
    adapter_key: Mapped[str]
    stages: Mapped[list[dict[str, Any]]]
    answer_tokens: Mapped[int | None]
    created_at: Mapped[CreatedAt]


class TeacherSpending(TenantOwned, Base):
    """What a run has spent with one of the installation's teachers, in US dollars, and may spend in all.

    month: its first day, in UTC, of the budget that it counts against. Outlives its run: what was spent stays spent.
    """

    __tablename__ = "teacher_spending"
    __table_args__ = (Index(None, "tenant_id", "month"),)

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    teacher: Mapped[str] = mapped_column(String(50), primary_key=True)
    month: Mapped[date]
    granted_usd: Mapped[float]
    spent_usd: Mapped[float] = mapped_column(default=0.0)
