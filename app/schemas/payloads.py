from datetime import datetime
from typing import Any, ClassVar, cast
from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue, RootModel

from app.errors import Problem
from app.http.bodies import MAX_BODY_BYTES
from app.http.payload import Name, RequestBody, ResponseBody
from app.http.problems import ProblemEntry
from app.infra.tables.schemas import Schema, SchemaVersion
from app.schemas import diff
from app.schemas.diff import Difference

_ID = "3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"
_CATEGORY = {
    "key": "refund",
    "name": "Refund",
    "definition": "The customer wants money back for something already paid.",
    "includes": ["a charge that was made twice"],
    "excludes": ["a question about when a promised refund arrives"],
}
MAX_NUMBER = 2**31 - 1  # of the column
_CONTENT = {"none_of_these": True, "categories": [_CATEGORY]}
_NAME = "The schema's name; unique within the tenant."


class DraftIn(RootModel[dict[str, Any]]):
    """A category schema, complete or not: `none_of_these` (yes or no) and `categories`, each with key, name,
    definition, includes and excludes. It is stored as it is given."""

    MAX_BYTES: ClassVar[int] = MAX_BODY_BYTES
    model_config = ConfigDict(json_schema_extra={"examples": [cast(JsonValue, _CONTENT)]})


class SchemaIn(RequestBody):
    MAX_BYTES = MAX_BODY_BYTES

    name: Name = Field(description=_NAME, examples=["order questions"])
    draft: DraftIn = Field(
        DraftIn({"categories": []}), description="The first draft, complete or not.", examples=[_CONTENT]
    )


class SchemaOut(ResponseBody):
    id: UUID = Field(description="The schema's id.", examples=[_ID])
    name: str = Field(description=_NAME, examples=["order questions"])
    draft_revision: int = Field(description="Counts the edits of the draft; its ETag.", examples=[3])
    latest_version: int | None = Field(
        description="The highest published version; null: none yet.", examples=[2]
    )
    current_version: int | None = Field(
        description="The version whose content was published last, for the first time or again; it is what runs and "
        "deployments go by. null: none yet.",
        examples=[2],
    )
    created_at: datetime = Field(description="When it was made.", examples=["2026-01-01T09:00:00Z"])
    updated_at: datetime = Field(
        description="When its draft last changed.", examples=["2026-01-02T10:30:00Z"]
    )

    @classmethod
    def of(cls, row: Schema, latest_version: int | None, current_version: int | None) -> "SchemaOut":
        return cls(
            id=row.id,
            name=row.name,
            draft_revision=row.draft_revision,
            latest_version=latest_version,
            current_version=current_version,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class DraftOut(ResponseBody):
    schema_id: UUID = Field(description="The schema that this is the draft of.", examples=[_ID])
    content: dict[str, Any] = Field(description="The draft as it was given.", examples=[_CONTENT])
    revision: int = Field(description="Counts its edits; also the ETag.", examples=[3])
    problems: list[ProblemEntry] = Field(
        description="What is to be mended before it can be published; empty: it is ready."
    )
    updated_at: datetime = Field(description="When it last changed.", examples=["2026-01-02T10:30:00Z"])

    @classmethod
    def of(cls, row: Schema, problems: list[Problem]) -> "DraftOut":
        return cls(
            schema_id=row.id,
            content=row.draft,
            revision=row.draft_revision,
            problems=[ProblemEntry(where=p.where, message=p.message) for p in problems],
            updated_at=row.updated_at,
        )


class CategoryOut(ResponseBody):
    key: str = Field(description="Names it for programs.", examples=["refund"])
    name: str = Field(description="Names it for people, and in the prompt.", examples=["Refund"])
    definition: str = Field(
        description="What belongs to it, in a sentence.", examples=[_CATEGORY["definition"]]
    )
    includes: list[str] = Field(description="What belongs to it too.", examples=[_CATEGORY["includes"]])
    excludes: list[str] = Field(description="What does not.", examples=[_CATEGORY["excludes"]])


class ContentOut(ResponseBody):
    name: str = Field(description="The schema's name at that time.", examples=["order questions"])
    none_of_these: bool = Field(description="Whether that is an answer too.", examples=[True])
    categories: list[CategoryOut] = Field(description="In the order of the prompt.")


class VersionOut(ResponseBody):
    id: UUID = Field(
        description="The version's id, which runs, gates and deployments name.",
        examples=["f0b5d6c4-9d2f-49a4-9d39-6a0d55f0a7aa"],
    )
    schema_id: UUID = Field(description="The schema that this is a version of.", examples=[_ID])
    number: int = Field(description="Counts the versions of the schema from 1.", examples=[2])
    content: ContentOut = Field(
        description="The categories, as they are and will stay.",
        examples=[{"name": "order questions", **_CONTENT}],
    )
    sha256: str = Field(description="Of the content.", examples=["9f" * 32])
    published_at: datetime = Field(description="When it was published.", examples=["2026-01-02T10:31:00Z"])
    published_by: UUID | None = Field(
        description="Id of the API key that published it.", examples=["0b6c8c5e-6f0e-4b53-8f0e-5e1f0d3d8a11"]
    )

    @classmethod
    def of(cls, row: SchemaVersion) -> "VersionOut":
        return cls.model_validate(row)


class RestoreIn(RequestBody):
    number: int = Field(
        description="The version whose content becomes the draft.", examples=[1], ge=1, le=MAX_NUMBER
    )


class TextOut(ResponseBody):
    old: str = Field(description="As it was.", examples=["Refund"])
    new: str = Field(description="As it is.", examples=["Money back"])


class RenamedOut(ResponseBody):
    key: TextOut = Field(description="The category's key before and after; often the same.")
    name: TextOut = Field(description="The category's name before and after.")


class ChangedOut(ResponseBody):
    key: str = Field(description="The category.", examples=["refund"])
    definition: TextOut | None = Field(description="Before and after; null where it is the same.")
    includes_added: list[str] = Field(description="New includes.", examples=[["a charge made twice"]])
    includes_removed: list[str] = Field(description="Includes that are gone.", examples=[[]])
    excludes_added: list[str] = Field(description="New excludes.", examples=[[]])
    excludes_removed: list[str] = Field(description="Excludes that are gone.", examples=[[]])


class DiffOut(ResponseBody):
    from_version: int = Field(description="The version compared with.", examples=[1])
    to_version: int = Field(description="The version compared.", examples=[2])
    name: TextOut | None = Field(description="The schema's name before and after; null where it is the same.")
    none_of_these: bool | None = Field(
        description="Whether none of these is an answer now; null where that did not change.", examples=[None]
    )
    added: list[CategoryOut] = Field(description="Categories that are new.", examples=[[_CATEGORY]])
    removed: list[CategoryOut] = Field(description="Categories that are gone.", examples=[[]])
    renamed: list[RenamedOut] = Field(description="Categories with another key or name.")
    changed: list[ChangedOut] = Field(description="Categories with another definition, include or exclude.")
    reordered: bool = Field(description="Whether the categories stand in another order.", examples=[False])
    text: str = Field(
        description="The same for people.",
        examples=["~ category refund\n    + include: a charge that was made twice"],
    )

    @classmethod
    def of(cls, from_version: int, to_version: int, found: Difference) -> "DiffOut":
        return cls.model_validate(
            found._asdict()
            | {"from_version": from_version, "to_version": to_version, "text": diff.to_text(found)}
        )
