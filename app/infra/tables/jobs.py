from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import SHA256_LENGTH, Base, CreatedAt, Id, TenantOwned, choice, utc_now, within_tenant

RUNNING_SLOT = "ix_jobs_running_slot"  # of two running jobs none has the slot of the other


class JobKind(StrEnum):
    validate_dataset = "validate_dataset"
    traces = "traces"
    sft = "sft"
    distill = "distill"
    rl = "rl"
    gate = "gate"
    deploy = "deploy"


class JobState(StrEnum):
    blocked = "blocked"
    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


class Job(TenantOwned, Base):
    """The row is the job and the outbox; a message carries its id and nothing else.

    epoch: counts claims; whoever writes names the epoch of its own claim. attempt: counts starts that the task itself
    can be blamed for; losses: those that ended because a worker was lost. subject_id: what `kind` works on.
    worked_s: of all claims that have ended, together. needs_bytes: of memory on the worker's GPU, or machine; NULL:
    nobody knows. priority: among its tenant's jobs, the larger first. slot: the GPU, or the part of one, on which it
    runs or ran last: two jobs that run have never the same; NULL: it needs none, or its worker has named none.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("runs", "run_id"),
        Index(None, "run_id", "seq"),
        Index(None, "subject_id"),
        Index(None, "tenant_id", "kind", "started_at"),
        Index(
            "ix_jobs_open",
            "available_at",
            sqlite_where=text("state IN ('queued', 'running')"),
            postgresql_where=text("state IN ('queued', 'running')"),
        ),
        Index(
            RUNNING_SLOT,
            "slot",
            unique=True,
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
        CheckConstraint("state <> 'running' OR owner IS NOT NULL", name="running_has_an_owner"),
    )

    id: Mapped[Id]
    kind: Mapped[JobKind] = mapped_column(choice(JobKind))
    subject_id: Mapped[UUID]
    run_id: Mapped[UUID | None]
    seq: Mapped[int] = mapped_column(default=0)
    payload: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[JobState] = mapped_column(choice(JobState), default=JobState.queued)
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int] = mapped_column(default=3)
    losses: Mapped[int] = mapped_column(default=0)
    epoch: Mapped[int] = mapped_column(default=0)
    owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    needs_bytes: Mapped[int | None] = mapped_column(BigInteger)
    priority: Mapped[int] = mapped_column(default=0, server_default="0")
    slot: Mapped[str | None] = mapped_column(String(200))
    worked_s: Mapped[float] = mapped_column(default=0.0, server_default="0")
    available_at: Mapped[datetime] = mapped_column(default=utc_now)
    published_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    progress: Mapped[dict[str, Any] | None]
    checkpoint_uri: Mapped[str | None]
    error: Mapped[dict[str, Any] | None]
    inputs_hash: Mapped[str | None] = mapped_column(String(SHA256_LENGTH))
    created_at: Mapped[CreatedAt]


class JobEvent(TenantOwned, Base):
    """Append-only, by a trigger too. Ids grow, so that a listener can go on after the last one that it saw."""

    __tablename__ = "job_events"
    __table_args__ = (
        within_tenant("jobs", "job_id"),
        within_tenant("runs", "run_id"),
        Index(None, "job_id", "id"),
        Index(None, "run_id", "id"),
        {"sqlite_autoincrement": True},
    )

    # SQLite counts up by itself only in a column that is called INTEGER.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    job_id: Mapped[UUID]
    run_id: Mapped[UUID | None]
    at: Mapped[CreatedAt]
    event: Mapped[dict[str, Any]]
