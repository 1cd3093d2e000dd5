from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from app.datasets import counts
from app.datasets.counts import Cell
from app.datasets.findings import Findings
from app.datasets.uploads import Received
from app.http.payload import Name, RequestBody, ResponseBody
from app.infra.tables.datasets import Dataset, DatasetState
from app.infra.tables.jobs import Job, JobState
from evaluation.contract.record import Split

_DATASET = "5a0d1c9e-7f4b-4c1d-9a53-3f2f6a1b7c20"
_SCHEMA = "3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"
_TIME = "2026-01-02T10:30:00Z"
_CATEGORY = "Key of a category; null: none of these."


class DatasetIn(RequestBody):
    name: Name = Field(description="What the tenant calls it.", examples=["support chats, spring"])
    schema_id: UUID = Field(description="The schema whose categories its labels name.", examples=[_SCHEMA])


class CategoryCountOut(ResponseBody):
    category: str | None = Field(description=_CATEGORY, examples=["refund"])
    conversations: int = Field(description="With this label as the newest.", examples=[120])


class SplitCountsOut(ResponseBody):
    split: Split = Field(description="Which part of the dataset.", examples=["train"])
    conversations: int = Field(description="All of it.", examples=[700])
    labelled: int = Field(description="Those with a label.", examples=[650])
    categories: list[CategoryCountOut] = Field(
        description="The labelled ones by category, the largest first."
    )


class CountsOut(ResponseBody):
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
    contradicting: int = Field(
        description="Of what came in with a file, conversations whose like has another label: no gate asks them.",
        examples=[4],
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
            contradicting=arrivals.contradicting,
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


class DatasetProblemOut(ResponseBody):
    code: str = Field(description="What kind of problem.", examples=["no_conversation"])
    message: str = Field(
        description="What is wrong, and what to do.",
        examples=["the file has no conversation that can be used; the reject file says why, line by line"],
    )


class ValidationOut(ResponseBody):
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


class DatasetOut(ResponseBody):
    id: UUID = Field(description="The dataset's id.", examples=[_DATASET])
    schema_id: UUID = Field(description="The schema whose categories its labels name.", examples=[_SCHEMA])
    name: str = Field(description="What the tenant calls it.", examples=["support chats, spring"])
    state: DatasetState = Field(
        description="empty → uploading → uploaded → validating → ready or failed. Runs need `ready`.",
        examples=["ready"],
    )
    counts: CountsOut = Field(description="What is in it.")
    problem: DatasetProblemOut | None = Field(description="Why it is `failed`; null otherwise.")
    findings: Findings | None = Field(
        description="What was found in its file, taken or only checked; null before it was read, and in lists."
    )
    validation: ValidationOut | None = Field(
        description="The job that reads its file; null where none was started, and in lists."
    )
    created_at: datetime = Field(description="When it was made.", examples=[_TIME])

    @classmethod
    def of(cls, row: Dataset, job: Job | None = None, *, whole: bool = False) -> "DatasetOut":
        """whole: with its findings."""
        found = row.findings if whole else None
        return cls(
            id=row.id,
            schema_id=row.schema_id,
            name=row.name,
            state=row.state,
            counts=CountsOut.of(row.counts),
            problem=None if row.problem is None else DatasetProblemOut(**row.problem),
            findings=None if found is None else Findings.model_validate(found),
            validation=None if job is None else ValidationOut.of(job),
            created_at=row.created_at,
        )


class UploadOut(ResponseBody):
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
