"""Which of the kept answers are meant."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

from fastapi import Depends, Query
from pydantic import AwareDatetime
from sqlalchemy import ColumnElement, Select

from app.datasets.attributes import FilterByAttributes
from app.infra.tables.answers import KeptAnswer
from evaluation.contract.mode import Mode
from evaluation.contract.schema import NONE_WORD, is_none_word

Q = TypeVar("Q", bound=Select[*tuple[Any, ...]])
_EQUAL: Final = (
    "schema_id",
    "schema_version_id",
    "model_version_id",
    "mode",
    "abstained",
    "degraded",
    "conversation_reference",
)


@dataclass
class AnswerFilter:
    """Its fields are the parameters of a query; what is None is not asked for."""

    attributes: FilterByAttributes
    schema_id: Annotated[
        UUID | None,
        Query(description="Only by this schema.", examples=["3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"]),
    ] = None
    schema_version_id: Annotated[
        UUID | None,
        Query(description="Only by this version of it.", examples=["f0b5d6c4-9d2f-49a4-9d39-6a0d55f0a7aa"]),
    ] = None
    model_version_id: Annotated[
        UUID | None,
        Query(description="Only by this model.", examples=["4f2d9c1b-6a7e-4d30-8c55-1b2a3c4d5e6f"]),
    ] = None
    mode: Annotated[Mode | None, Query(description="Only in this mode.", examples=["reasoned"])] = None
    category: Annotated[
        str | None,
        Query(description=f"Only with this answer; `{NONE_WORD}`: none of these.", examples=["refund"]),
    ] = None
    min_confidence: Annotated[
        float | None, Query(description="Only with at least this confidence.", ge=0, le=1, examples=[0.5])
    ] = None
    max_confidence: Annotated[
        float | None, Query(description="Only with at most this confidence.", ge=0, le=1, examples=[0.8])
    ] = None
    abstained: Annotated[
        bool | None, Query(description="Only where the model abstained, or only where not.", examples=[True])
    ] = None
    degraded: Annotated[
        bool | None, Query(description="Only degraded ones, or only the others.", examples=[False])
    ] = None
    feedback: Annotated[
        bool | None, Query(description="Only with feedback, or only without.", examples=[False])
    ] = None
    first: Annotated[
        AwareDatetime | None,
        Query(alias="from", description="Only given then or later.", examples=["2026-01-01T00:00:00Z"]),
    ] = None
    last: Annotated[
        AwareDatetime | None,
        Query(alias="to", description="Only given before then.", examples=["2026-02-01T00:00:00Z"]),
    ] = None
    conversation_reference: Annotated[
        str | None, Query(description="Only of this conversation.", examples=["chat-20260102-17"])
    ] = None

    def of(self, query: Q) -> Q:
        wanted = ((name, getattr(self, name)) for name in _EQUAL)
        equal = [getattr(KeptAnswer, name) == value for name, value in wanted if value is not None]
        return self.attributes.of(query.where(*equal, *self._conditions()), KeptAnswer)

    def _conditions(self) -> Iterator[ColumnElement[bool]]:
        if self.category is not None and is_none_word(self.category):
            yield KeptAnswer.category_key.is_(None)
            yield KeptAnswer.failure.is_(None)
            yield KeptAnswer.abstained.is_(False)
        elif self.category is not None:
            yield KeptAnswer.category_key == self.category
        if self.min_confidence is not None:
            yield KeptAnswer.confidence >= self.min_confidence
        if self.max_confidence is not None:
            yield KeptAnswer.confidence <= self.max_confidence
        if self.first is not None:
            yield KeptAnswer.created_at >= self.first
        if self.last is not None:
            yield KeptAnswer.created_at < self.last
        if self.feedback is not None:
            yield KeptAnswer.feedback.is_not(None) if self.feedback else KeptAnswer.feedback.is_(None)


WhichAnswers = Annotated[AnswerFilter, Depends()]
