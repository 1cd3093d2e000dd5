from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, String, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from app.infra.db.base import SHA256_LENGTH, Base, CreatedAt, Id, Sha256, TenantOwned, choice, within_tenant
from evaluation.contract.record import Split
from evaluation.contract.schema import MAX_CONDITION_CHARS


class DatasetState(StrEnum):
    empty = "empty"
    uploading = "uploading"
    uploaded = "uploaded"
    validating = "validating"
    ready = "ready"
    failed = "failed"


class LabelSource(StrEnum):
    import_ = "import"
    reviewer = "reviewer"
    correction = "correction"


class Attributed:
    """What may be known of a conversation beside what is said in it.

    conversation_reference: what the sender calls it, where external_id is not that already. metadata: under `extra`,
    because SQLAlchemy has an attribute of that name.
    """

    language: Mapped[str | None] = mapped_column(String(35))
    channel: Mapped[str | None] = mapped_column(String(64))
    time: Mapped[datetime | None]
    customer_reference: Mapped[str | None] = mapped_column(String(256))
    conversation_reference: Mapped[str | None] = mapped_column(String(256))
    extra: Mapped[dict[str, Any] | None]


class Dataset(TenantOwned, Base):
    """findings: what was found in its file, taken or only checked; NULL before it was read.

    lost_rows_at: when one of its conversations was deleted last.
    """

    __tablename__ = "datasets"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("schemas", "schema_id"),
        Index(None, "tenant_id", "created_at", "id"),
    )

    id: Mapped[Id]
    schema_id: Mapped[UUID]
    name: Mapped[str] = mapped_column(String(200))
    state: Mapped[DatasetState] = mapped_column(choice(DatasetState), default=DatasetState.empty)
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    problem: Mapped[dict[str, Any] | None]
    rejects_uri: Mapped[str | None]
    findings: Mapped[dict[str, Any] | None]
    lost_rows_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]


class UploadRow(TenantOwned, Base):
    """The file as it came. total_bytes NULL: its sender has not said yet. check_only: no row of it is taken yet.

    sha256, key: of the whole file in the storage; NULL and empty before it is there.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("datasets", "dataset_id", ondelete="CASCADE"),
        Index(None, "dataset_id"),
        CheckConstraint("received_bytes >= 0", name="received_is_not_negative"),
    )

    id: Mapped[Id]
    dataset_id: Mapped[UUID]
    media_type: Mapped[str] = mapped_column(String(100))
    encoding: Mapped[str | None] = mapped_column(String(20))
    received_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    total_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(SHA256_LENGTH))
    key: Mapped[str]
    check_only: Mapped[bool] = mapped_column(default=False, server_default=false())
    created_at: Mapped[CreatedAt]
    completed_at: Mapped[datetime | None]


class ConversationRow(Attributed, TenantOwned, Base):
    """text_sha256: of the normalised text. group_id: shared by near duplicates, which never straddle a split.

    signature: what a new conversation is compared with; NULL: the row is older than this column.
    """

    __tablename__ = "conversations"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        UniqueConstraint("dataset_id", "external_id"),
        within_tenant("datasets", "dataset_id", ondelete="CASCADE"),
        Index(None, "dataset_id", "created_at", "id"),
        Index(None, "dataset_id", "text_sha256"),
        Index(None, "dataset_id", "group_id"),
        Index("ix_conversations_customer", "tenant_id", "customer_reference"),
        Index("ix_conversations_reference", "tenant_id", "conversation_reference"),
        Index("ix_conversations_external", "tenant_id", "external_id"),
    )

    id: Mapped[Id]
    dataset_id: Mapped[UUID]
    external_id: Mapped[str] = mapped_column(String(256))
    messages: Mapped[list[dict[str, Any]]]
    text_sha256: Mapped[Sha256]
    signature: Mapped[bytes | None] = mapped_column(deferred=True)
    group_id: Mapped[str] = mapped_column(String(SHA256_LENGTH))
    split: Mapped[Split] = mapped_column(choice(Split))
    created_at: Mapped[CreatedAt]


class ConversationBand(TenantOwned, Base):
    """A slice of a conversation's fingerprint. Near duplicates share one at least, so that a conversation which comes
    later finds the group that it belongs to by an index.
    """

    __tablename__ = "conversation_bands"
    __table_args__ = (
        within_tenant("conversations", "conversation_id", ondelete="CASCADE"),
        within_tenant("datasets", "dataset_id", ondelete="CASCADE"),
        Index(None, "dataset_id", "band"),
    )

    conversation_id: Mapped[UUID] = mapped_column(primary_key=True)
    band: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    dataset_id: Mapped[UUID]


class Label(TenantOwned, Base):
    """category_key NULL: none of these. The newest label of a conversation counts; older ones stay.

    criterion: the include or exclude that decides it, word for word, where that is known.
    """

    __tablename__ = "labels"
    __table_args__ = (
        UniqueConstraint("tenant_id", "id"),
        within_tenant("conversations", "conversation_id", ondelete="CASCADE"),
        within_tenant("schemas", "schema_id"),
        within_tenant("schema_versions", "schema_id", "schema_version_id"),
        Index(None, "tenant_id", "conversation_id", "created_at", "id"),
    )

    id: Mapped[Id]
    conversation_id: Mapped[UUID]
    schema_id: Mapped[UUID]
    schema_version_id: Mapped[UUID | None]
    category_key: Mapped[str | None] = mapped_column(String(128))
    criterion: Mapped[str | None] = mapped_column(String(MAX_CONDITION_CHARS))
    source: Mapped[LabelSource] = mapped_column(choice(LabelSource))
    created_by: Mapped[UUID | None]
    created_at: Mapped[CreatedAt]
