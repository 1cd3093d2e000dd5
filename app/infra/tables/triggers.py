from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, String, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, CreatedAt, Id, TenantOwned, choice, utc_now, within_tenant


class TriggerKind(StrEnum):
    """What a trigger waits for. none_rate: more answers of none of these; label_mass: less of it than before."""

    by_hand = "by_hand"
    schedule = "schedule"
    corrections = "corrections"
    drift = "drift"
    none_rate = "none_rate"
    label_mass = "label_mass"
    failed_edit = "failed_edit"


class TriggerOutcome(StrEnum):
    """What came of the last check. held_back: it was met, and its cool-down, budget or the like kept it from starting.

    refused: a run could not be begun, such as for lack of labels.
    """

    started = "started"
    not_met = "not_met"
    held_back = "held_back"
    refused = "refused"


class Trigger(TenantOwned, Base):
    """When a run is begun by itself, and how often at most.

    rule: as `app.triggers.rules` has it. counts_from: from when a schedule counts. checks: counts claims; whoever
    writes the outcome of a check names the number of its own. outcome, reason, figures: of the last check; NULL: there
    was none.
    held_at, held_reason: when it was met last and did not start, and why.
    """

    __tablename__ = "triggers"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("tenant_id", "name"),
        within_tenant("schemas", "schema_id"),
        within_tenant("datasets", "dataset_id"),
        Index(None, "next_check_at"),
        Index(None, "tenant_id", "created_at", "id"),
        CheckConstraint("cool_down_h >= 1", name="it_cools_down"),
        CheckConstraint("budget_runs >= 1 AND budget_window_h >= 1", name="it_has_a_budget"),
    )

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(100))
    schema_id: Mapped[UUID]
    dataset_id: Mapped[UUID]
    kind: Mapped[TriggerKind] = mapped_column(choice(TriggerKind))
    rule: Mapped[dict[str, Any]]
    preset: Mapped[str] = mapped_column(String(50))
    seed: Mapped[int] = mapped_column(BigInteger, default=0)
    cool_down_h: Mapped[int]
    budget_window_h: Mapped[int]
    budget_runs: Mapped[int]
    budget_gpu_s: Mapped[float | None]
    paused: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_by: Mapped[UUID | None]
    created_at: Mapped[CreatedAt]
    counts_from: Mapped[datetime] = mapped_column(default=utc_now)
    checks: Mapped[int] = mapped_column(BigInteger, default=0)
    next_check_at: Mapped[datetime] = mapped_column(default=utc_now)
    checked_at: Mapped[datetime | None]
    outcome: Mapped[TriggerOutcome | None] = mapped_column(choice(TriggerOutcome))
    reason: Mapped[str | None]
    figures: Mapped[dict[str, Any] | None]
    held_at: Mapped[datetime | None]
    held_reason: Mapped[str | None]
    started_at: Mapped[datetime | None]
    run_id: Mapped[UUID | None]
