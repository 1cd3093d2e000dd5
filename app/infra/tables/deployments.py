from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, CreatedAt, Id, TenantOwned, choice, within_tenant
from evaluation.reporting.report import Verdict

_LIVE = text("state = 'live'")
_OPEN = text("state IN ('waiting', 'provisional')")


class DeploymentState(StrEnum):
    pending = "pending"
    loading = "loading"
    live = "live"
    retired = "retired"
    failed = "failed"


class EditState(StrEnum):
    waiting = "waiting"
    provisional = "provisional"
    confirmed = "confirmed"
    reverted = "reverted"


class Deployment(TenantOwned, Base):
    """Names a passed gate on its own pair of model and schema version; no SQL can make one that does not."""

    __tablename__ = "deployments"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        ForeignKeyConstraint(
            ["gate_result_id", "model_version_id", "schema_version_id", "verdict"],
            [f"gate_results.{name}" for name in ("id", "model_version_id", "schema_version_id", "verdict")],
            name="fk_deployments_passed_gate",
        ),
        CheckConstraint("verdict = 'passed'", name="gate_has_passed"),
        within_tenant("gate_results", "gate_result_id"),
        within_tenant("model_versions", "model_version_id"),
        within_tenant("schema_versions", "schema_id", "schema_version_id"),
        within_tenant("deployments", "replaces_id"),
        Index(
            "uq_deployments_live",
            "schema_id",
            unique=True,
            sqlite_where=_LIVE,
            postgresql_where=_LIVE,
        ),
        Index(None, "tenant_id", "created_at", "id"),
    )

    id: Mapped[Id]
    schema_id: Mapped[UUID]
    gate_result_id: Mapped[UUID]
    model_version_id: Mapped[UUID]
    schema_version_id: Mapped[UUID]
    verdict: Mapped[Verdict] = mapped_column(choice(Verdict), default=Verdict.passed)
    state: Mapped[DeploymentState] = mapped_column(choice(DeploymentState), default=DeploymentState.pending)
    replaces_id: Mapped[UUID | None]
    created_by: Mapped[UUID | None]
    created_at: Mapped[CreatedAt]
    activated_at: Mapped[datetime | None]
    retired_at: Mapped[datetime | None]
    problem: Mapped[str | None]


class ServedEdit(TenantOwned, Base):
    """A schema version published while a deployment was live, until its own gate has decided about it."""

    __tablename__ = "served_edits"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("schemas", "schema_id"),
        within_tenant("deployments", "deployment_id"),
        within_tenant("schema_versions", "schema_id", "schema_version_id"),
        within_tenant("gate_results", "gate_result_id"),
        Index(
            "uq_served_edits_open",
            "schema_id",
            unique=True,
            sqlite_where=_OPEN,
            postgresql_where=_OPEN,
        ),
    )

    id: Mapped[Id]
    schema_id: Mapped[UUID]
    deployment_id: Mapped[UUID]
    schema_version_id: Mapped[UUID]
    gate_result_id: Mapped[UUID | None]
    state: Mapped[EditState] = mapped_column(choice(EditState), default=EditState.waiting)
    created_at: Mapped[CreatedAt]
    decided_at: Mapped[datetime | None]
