from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, CreatedAt, Id, Sha256, TenantOwned, choice, within_tenant
from evaluation.contract.mode import Mode
from evaluation.reporting.report import Verdict

_FINAL = text("verdict IN ('passed', 'failed')")


class GateState(StrEnum):
    queued = "queued"
    running = "running"
    done = "done"
    failed = "failed"  # the measuring itself; a verdict is another matter


class GateResult(TenantOwned, Base):
    """mode: in which the model was asked, and so the one that a deployment of it serves.

    calibration: of the measured model's confidences (`app.gates.confidence`), where they were measured.
    label_free: what was measured without labels (`evaluation.gating.label_free`), where they are what it lacks.
    """

    __tablename__ = "gate_results"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        # What a deployment points at: the verdict is part of the key, so it cannot change under one.
        UniqueConstraint("id", "model_version_id", "schema_version_id", "verdict"),
        within_tenant("model_versions", "model_version_id"),
        within_tenant("schema_versions", "schema_version_id"),
        # Passed and failed are final for a pair, a policy and a mode; incomplete may be repeated.
        Index(
            "uq_gate_results_final",
            "model_version_id",
            "schema_version_id",
            "policy_sha256",
            "mode",
            unique=True,
            sqlite_where=_FINAL,
            postgresql_where=_FINAL,
        ),
        Index(None, "tenant_id", "created_at", "id"),
        CheckConstraint("(state = 'done') = (verdict IS NOT NULL)", name="done_has_a_verdict"),
    )

    id: Mapped[Id]
    model_version_id: Mapped[UUID]
    schema_version_id: Mapped[UUID]
    policy_sha256: Mapped[Sha256]
    mode: Mapped[Mode] = mapped_column(choice(Mode), default=Mode.reasoned, server_default="reasoned")
    state: Mapped[GateState] = mapped_column(choice(GateState), default=GateState.queued)
    verdict: Mapped[Verdict | None] = mapped_column(choice(Verdict))
    reasons: Mapped[list[str]] = mapped_column(default=list)
    report_key: Mapped[str | None]
    calibration: Mapped[dict[str, Any] | None]
    label_free: Mapped[dict[str, Any] | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
