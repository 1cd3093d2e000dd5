from datetime import datetime
from uuid import UUID

from pydantic import Field, ValidationError, model_validator

from app.datasets import attributes
from app.datasets.attributes import AttributesIn, AttributesOut
from app.datasets.conversations import Deleted
from app.datasets.repository import LabelledRow
from app.http.bodies import MAX_BODY_BYTES
from app.http.payload import RequestBody, ResponseBody
from app.infra.tables.datasets import Label, LabelSource
from evaluation.contract import record
from evaluation.contract.record import MAX_MESSAGES, Role, Split
from evaluation.contract.schema import MAX_CONDITION_CHARS

_DATASET = "5a0d1c9e-7f4b-4c1d-9a53-3f2f6a1b7c20"
_CONVERSATION = "c8b1b3e4-0f0d-4e6a-8a52-6f2f9b7d1e33"
_VERSION = "f0b5d6c4-9d2f-49a4-9d39-6a0d55f0a7aa"
_KEY = "0b6c8c5e-6f0e-4b53-8f0e-5e1f0d3d8a11"
_TIME = "2026-01-02T10:30:00Z"
_MESSAGES = [{"role": "customer", "text": "I was charged twice for one order."}]
_CATEGORY = "Key of a category; null: none of these."
_CRITERION = "The include or exclude of the schema, word for word, that decides it, where that is known."
_INCLUDE = "an amount was charged twice"


class MessageIn(RequestBody):
    role: Role = Field(description="Who says it.", examples=["customer"])
    text: str = Field(
        description="What is said.", max_length=100_000, examples=["I was charged twice for one order."]
    )


class ConversationIn(AttributesIn):
    MAX_BYTES = MAX_BODY_BYTES

    id: str = Field(
        description="The sender's own id; the same conversation may be sent again under it.",
        min_length=1,
        max_length=256,
        examples=["chat-20260102-17"],
    )
    messages: list[MessageIn] = Field(
        description="In their order, one of the customer's with text among them.",
        min_length=1,
        max_length=MAX_MESSAGES,
        fail_fast=True,
        examples=[_MESSAGES],
    )
    category: str | None = Field(
        None, description=f"{_CATEGORY} Left out: no label.", max_length=128, examples=["refund"]
    )
    criterion: str | None = Field(
        None, description=_CRITERION, max_length=MAX_CONDITION_CHARS, examples=[_INCLUDE]
    )
    schema_version_id: UUID | None = Field(
        None,
        description="The version that the category is one of; by default the newest.",
        examples=[_VERSION],
    )
    split: Split | None = Field(
        None,
        description="Left out: the group of its duplicates decides, or a hash of its text.",
        examples=["train"],
    )

    @model_validator(mode="after")
    def _usable(self) -> "ConversationIn":
        self.as_record()
        return self

    def as_record(self) -> record.Conversation:
        """Raises: ValueError."""
        known = self.model_dump(mode="json", exclude_unset=True, exclude={"schema_version_id"})
        try:
            return record.Conversation.model_validate(known)
        except ValidationError as error:
            raise ValueError(record.first_problem(error)) from None


class LabelIn(RequestBody):
    category_key: str | None = Field(description=_CATEGORY, max_length=128, examples=["refund"])
    schema_version_id: UUID = Field(
        description="The version of the dataset's schema that the category is one of.", examples=[_VERSION]
    )
    source: LabelSource = Field(
        description="`reviewer`: somebody read it. `correction`: somebody mended an answer.",
        examples=["reviewer"],
    )
    criterion: str | None = Field(
        None, description=_CRITERION, max_length=MAX_CONDITION_CHARS, examples=[_INCLUDE]
    )

    @model_validator(mode="after")
    def _by_a_person(self) -> "LabelIn":
        if self.source is LabelSource.import_:
            raise ValueError("source: a label that is set here comes from a reviewer or a correction")
        return self


class LabelOut(ResponseBody):
    category_key: str | None = Field(description=_CATEGORY, examples=["refund"])
    schema_version_id: UUID | None = Field(
        description="The version that it was checked against; null: it came in before any was published.",
        examples=[_VERSION],
    )
    source: LabelSource = Field(description="Where it comes from.", examples=["import"])
    criterion: str | None = Field(description=_CRITERION, examples=[_INCLUDE])
    created_by: UUID | None = Field(description="Id of the API key, where there was one.", examples=[_KEY])
    created_at: datetime = Field(description="When it was given.", examples=[_TIME])

    @classmethod
    def of(cls, row: Label) -> "LabelOut":
        return cls.model_validate(row)


class MessageOut(ResponseBody):
    role: Role = Field(description="Who says it.", examples=["customer"])
    text: str = Field(description="What is said.", examples=["I was charged twice for one order."])


class ConversationOut(AttributesOut):
    id: UUID = Field(description="Its id here.", examples=[_CONVERSATION])
    dataset_id: UUID = Field(description="The dataset that it is in.", examples=[_DATASET])
    external_id: str = Field(description="The sender's own id.", examples=["chat-20260102-17"])
    messages: list[MessageOut] = Field(description="In their order.")
    split: Split = Field(description="What it is used for.", examples=["train"])
    group_id: str = Field(
        description="Shared by conversations that say nearly the same; they are in one split.",
        examples=["9f" * 32],
    )
    label: LabelOut | None = Field(description="The newest; null: it has none.")
    created_at: datetime = Field(description="When it came in.", examples=[_TIME])

    @classmethod
    def of(cls, found: LabelledRow) -> "ConversationOut":
        row = found.conversation
        return cls(
            id=row.id,
            dataset_id=row.dataset_id,
            external_id=row.external_id,
            messages=[MessageOut(**message) for message in row.messages],
            split=row.split,
            group_id=row.group_id,
            label=None if found.label is None else LabelOut.of(found.label),
            created_at=row.created_at,
            **attributes.shown(row),
        )


class DeletedOut(ResponseBody):
    id: UUID = Field(description="Of the conversation that is gone.", examples=[_CONVERSATION])
    runs: list[UUID] = Field(
        description="Runs whose frozen dataset it was in; those that had not ended have ended now, and say why.",
        examples=[["9b1f6a52-0c3d-4f6e-8a7b-2d5c4e3f1a60"]],
    )
    model_versions: list[UUID] = Field(
        description="Models that were trained or judged with it and keep what they learned.",
        examples=[["6e0e5c8f-3f8c-4f6a-9f52-1a2b3c4d5e6f"]],
    )

    @classmethod
    def of(cls, deleted: Deleted) -> "DeletedOut":
        return cls(**deleted._asdict())
