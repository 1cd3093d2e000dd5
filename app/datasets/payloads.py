from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field, ValidationError, model_validator

from app.datasets import counts
from app.datasets.conversations import Deleted
from app.datasets.counts import Cell
from app.datasets.repository import Labelled
from app.datasets.uploads import Received
from app.models.datasets import Dataset, DatasetState, Label, LabelSource
from app.models.jobs import Job, JobState
from app.payload import Answer, Name, Payload
from evaluation.contract import record
from evaluation.contract.record import MAX_MESSAGES, Role, Split

_DATASET = "5a0d1c9e-7f4b-4c1d-9a53-3f2f6a1b7c20"
_CONVERSATION = "c8b1b3e4-0f0d-4e6a-8a52-6f2f9b7d1e33"
_SCHEMA = "3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"
_VERSION = "f0b5d6c4-9d2f-49a4-9d39-6a0d55f0a7aa"
_KEY = "0b6c8c5e-6f0e-4b53-8f0e-5e1f0d3d8a11"
_TIME = "2026-01-02T10:30:00Z"
_MESSAGES = [{"role": "customer", "text": "I was charged twice for one order."}]
_CATEGORY = "Key of a category; null: none of these."


class DatasetIn(Payload):
    name: Name = Field(description="What the tenant calls it.", examples=["support chats, spring"])
    schema_id: UUID = Field(description="The schema whose categories its labels name.", examples=[_SCHEMA])


class CategoryCountOut(Answer):
    category: str | None = Field(description=_CATEGORY, examples=["refund"])
    conversations: int = Field(description="With this label as the newest.", examples=[120])


class SplitCountsOut(Answer):
    split: Split = Field(description="Which part of the dataset.", examples=["train"])
    conversations: int = Field(description="All of it.", examples=[700])
    labelled: int = Field(description="Those with a label.", examples=[650])
    categories: list[CategoryCountOut] = Field(
        description="The labelled ones by category, the largest first."
    )


class CountsOut(Answer):
    conversations: int = Field(description="All of them.", examples=[1000])
    labelled: int = Field(description="Those with a label.", examples=[940])
    rejected: int = Field(
        description="Lines of the file that hold no usable conversation; `rejects` says why.", examples=[12]
    )
    exact_duplicates: int = Field(
        description="Of what came in, conversations whose customer says just what another one's does.",
        examples=[8],
    )
    near_duplicates: int = Field(
        description="Of what came in, conversations that nearly repeat another one.", examples=[31]
    )
    moved: int = Field(
        description="Conversations in another split than was asked for, since a duplicate of theirs is held out.",
        examples=[5],
    )
    splits: list[SplitCountsOut] = Field(description="The same by split.")

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "CountsOut":
        have = counts.from_stored(stored)
        arrivals = have.arrivals
        return cls(
            conversations=have.conversations,
            labelled=have.labelled,
            rejected=arrivals.rejected,
            exact_duplicates=arrivals.exact,
            near_duplicates=arrivals.near,
            moved=arrivals.moved,
            splits=[_split_counts(split, have.cells) for split in Split],
        )


def _split_counts(split: Split, cells: Mapping[Cell, int]) -> SplitCountsOut:
    here = {cell: count for cell, count in cells.items() if cell.split is split}
    labelled = sorted(
        ((cell.category, count) for cell, count in here.items() if cell.labelled),
        key=lambda found: (-found[1], found[0] or ""),
    )
    return SplitCountsOut(
        split=split,
        conversations=sum(here.values()),
        labelled=sum(count for _, count in labelled),
        categories=[CategoryCountOut(category=key, conversations=count) for key, count in labelled],
    )


class DatasetProblemOut(Answer):
    code: str = Field(description="What kind of problem.", examples=["no_conversation"])
    message: str = Field(
        description="What is wrong, and what to do.",
        examples=["the file has no conversation that can be used; the reject file says why, line by line"],
    )


class ValidationOut(Answer):
    """The job that reads the file."""

    job_id: UUID = Field(description="Id of the job.", examples=["1f6a3bb0-9a4e-47e0-8d0d-0d3b1a5e7c44"])
    state: JobState = Field(description="Of the job.", examples=["running"])
    done: int | None = Field(
        description="How far it is, in what `message` names: bytes read, conversations stored.",
        examples=[524288],
    )
    total: int | None = Field(description="How far it has to go.", examples=[1048576])
    message: str | None = Field(description="What it does now.", examples=["reading"])

    @classmethod
    def of(cls, job: Job) -> "ValidationOut":
        at = job.progress or {}
        return cls(
            job_id=job.id,
            state=job.state,
            done=at.get("done"),
            total=at.get("total"),
            message=at.get("message"),
        )


class DatasetOut(Answer):
    id: UUID = Field(description="The dataset's id.", examples=[_DATASET])
    schema_id: UUID = Field(description="The schema whose categories its labels name.", examples=[_SCHEMA])
    name: str = Field(description="What the tenant calls it.", examples=["support chats, spring"])
    state: DatasetState = Field(
        description="empty → uploading → uploaded → validating → ready or failed. Runs need `ready`.",
        examples=["ready"],
    )
    counts: CountsOut = Field(description="What is in it.")
    problem: DatasetProblemOut | None = Field(description="Why it is `failed`; null otherwise.")
    validation: ValidationOut | None = Field(
        description="The job that reads its file; null where none was started, and in lists."
    )
    created_at: datetime = Field(description="When it was made.", examples=[_TIME])

    @classmethod
    def of(cls, row: Dataset, job: Job | None = None) -> "DatasetOut":
        return cls(
            id=row.id,
            schema_id=row.schema_id,
            name=row.name,
            state=row.state,
            counts=CountsOut.of(row.counts),
            problem=None if row.problem is None else DatasetProblemOut(**row.problem),
            validation=None if job is None else ValidationOut.of(job),
            created_at=row.created_at,
        )


class UploadOut(Answer):
    received_bytes: int = Field(description="Where to go on; also `Upload-Offset`.", examples=[1048576])
    total_bytes: int | None = Field(
        description="Of the whole file; null while nobody has said.", examples=[5000000]
    )
    complete: bool = Field(description="Whether all of it has arrived and is stored.", examples=[False])
    sha256: str | None = Field(
        description="Of the file as it was sent, once it is complete.", examples=["9f" * 32]
    )
    state: DatasetState = Field(description="Of the dataset.", examples=["uploading"])

    @classmethod
    def of(cls, received: Received) -> "UploadOut":
        return cls(**received._asdict())


class MessageIn(Payload):
    role: Role = Field(description="Who says it.", examples=["customer"])
    text: str = Field(
        description="What is said.", max_length=100_000, examples=["I was charged twice for one order."]
    )


class ConversationIn(Payload):
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
        examples=[_MESSAGES],
    )
    category: str | None = Field(
        None, description=f"{_CATEGORY} Left out: no label.", max_length=128, examples=["refund"]
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


class LabelIn(Payload):
    category_key: str | None = Field(description=_CATEGORY, max_length=128, examples=["refund"])
    schema_version_id: UUID = Field(
        description="The version of the dataset's schema that the category is one of.", examples=[_VERSION]
    )
    source: LabelSource = Field(
        description="`reviewer`: somebody read it. `correction`: somebody mended an answer.",
        examples=["reviewer"],
    )

    @model_validator(mode="after")
    def _by_a_person(self) -> "LabelIn":
        if self.source is LabelSource.import_:
            raise ValueError("source: a label that is set here comes from a reviewer or a correction")
        return self


class LabelOut(Answer):
    category_key: str | None = Field(description=_CATEGORY, examples=["refund"])
    schema_version_id: UUID | None = Field(
        description="The version that it was checked against; null: it came in before any was published.",
        examples=[_VERSION],
    )
    source: LabelSource = Field(description="Where it comes from.", examples=["import"])
    created_by: UUID | None = Field(description="Id of the API key, where there was one.", examples=[_KEY])
    created_at: datetime = Field(description="When it was given.", examples=[_TIME])

    @classmethod
    def of(cls, row: Label) -> "LabelOut":
        return cls.model_validate(row)


class MessageOut(Answer):
    role: Role = Field(description="Who says it.", examples=["customer"])
    text: str = Field(description="What is said.", examples=["I was charged twice for one order."])


class ConversationOut(Answer):
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
    def of(cls, found: Labelled) -> "ConversationOut":
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
        )


class DeletedOut(Answer):
    id: UUID = Field(description="Of the conversation that is gone.", examples=[_CONVERSATION])
    model_versions: list[UUID] = Field(
        description="Models that were trained or judged with it and keep what they learned.",
        examples=[["6e0e5c8f-3f8c-4f6a-9f52-1a2b3c4d5e6f"]],
    )

    @classmethod
    def of(cls, deleted: Deleted) -> "DeletedOut":
        return cls(**deleted._asdict())
