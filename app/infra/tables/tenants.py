from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import Base, CreatedAt, Id, TenantOwned, choice
from evaluation.contract.mode import ModeChoice
from evaluation.formats.redaction import Redaction

DEFAULT_QUOTA_BYTES = 10 << 30


class ServeEdits(StrEnum):
    """When a published edit of a live schema starts to be served: once its gate has passed, or until it fails."""

    after_gate = "after_gate"
    at_once = "at_once"


class Fallback(StrEnum):
    """What may answer where the deployed model cannot: nothing, the deployment before it, or at last the base."""

    none = "none"
    previous = "previous"
    base = "base"


class Ungated(StrEnum):
    """Who may be answered by the base as it stands, which no gate has examined: keys with the scope `playground`, the
    API too for schemas that have no live deployment, or nobody."""

    playground = "playground"
    api = "api"
    off = "off"


class Tenant(Base):
    """deleted_at: since when it is gone for everybody; its row stays, because audit events name it. erased_at: since
    when nothing else of it is left."""

    __tablename__ = "tenants"
    __table_args__ = (
        CheckConstraint("abstain_below >= 0 AND abstain_below <= 1", name="abstain_below_is_a_probability"),
        CheckConstraint("keep_answers_days > 0", name="answers_are_kept_for_days"),
        CheckConstraint("keep_conversations_days > 0", name="conversations_are_kept_for_days"),
        CheckConstraint("keep_files_days > 0", name="files_are_kept_for_days"),
    )

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(200), unique=True)
    serve_edits: Mapped[ServeEdits] = mapped_column(choice(ServeEdits), default=ServeEdits.after_gate)
    fallback: Mapped[Fallback] = mapped_column(choice(Fallback), default=Fallback.none, server_default="none")
    ungated: Mapped[Ungated] = mapped_column(
        choice(Ungated), default=Ungated.playground, server_default="playground"
    )
    mode: Mapped[ModeChoice] = mapped_column(
        choice(ModeChoice, "mode"), default=ModeChoice.reasoned, server_default="reasoned"
    )
    redact: Mapped[bool] = mapped_column(default=False, server_default=false())
    redact_names: Mapped[bool] = mapped_column(default=False, server_default=false())
    abstain_below: Mapped[float | None]
    keep_answers_days: Mapped[int | None]
    keep_conversations_days: Mapped[int | None]
    keep_files_days: Mapped[int | None]
    upload_quota_bytes: Mapped[int] = mapped_column(BigInteger, default=DEFAULT_QUOTA_BYTES)
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]

    @property
    def incoming_redaction(self) -> Redaction:
        """Of conversations that are uploaded or sent; answers that are kept have more taken out."""
        if not self.redact:
            return Redaction.nothing
        return Redaction.names_too if self.redact_names else Redaction.by_form


class HeldKind(StrEnum):
    """What has bytes. upload: a dataset's file, or as much of it as was announced; conversations: a dataset's, that
    came one by one; draft, versions: a schema's; answers: those that are kept, of the whole tenant."""

    upload = "upload"
    conversations = "conversations"
    draft = "draft"
    versions = "versions"
    answers = "answers"


class HeldBytes(TenantOwned, Base):
    """holder: id of the dataset or schema, or the tenant's own. Their sum is compared with the tenant's quota."""

    __tablename__ = "held_bytes"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    kind: Mapped[HeldKind] = mapped_column(choice(HeldKind), primary_key=True)
    holder: Mapped[UUID] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
