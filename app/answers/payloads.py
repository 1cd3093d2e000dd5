from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field, JsonValue, model_validator

from app.answers import service
from app.answers.service import FeedbackVerdict, Forgotten
from app.datasets import attributes
from app.datasets.attributes import AttributesOut
from app.datasets.conversation_payloads import MessageOut
from app.http.payload import RequestBody, ResponseBody
from app.infra.tables.answers import KeptAnswer
from app.infra.tables.datasets import LabelSource
from evaluation.contract.mode import Mode
from evaluation.contract.parse import ParseFailure

_ID = "d3b9a3a4-8a52-4a33-9a3c-2f3b7e8c9a10"
_SCHEMA = "3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"
_VERSION = "f0b5d6c4-9d2f-49a4-9d39-6a0d55f0a7aa"
_MODEL = "4f2d9c1b-6a7e-4d30-8c55-1b2a3c4d5e6f"
_DATASET = "5a0d1c9e-7f4b-4c1d-9a53-3f2f6a1b7c20"
_CONVERSATION = "c8b1b3e4-0f0d-4e6a-8a52-6f2f9b7d1e33"
_TIME = "2026-01-02T10:30:00Z"
_PROBABILITIES: list[JsonValue] = [
    {"category": "refund", "probability": 0.93},
    {"category": None, "probability": 0.07},
]
_SOURCE = (
    "`reviewer`: somebody read it. `correction`: somebody mended the answer, as the customer or an agent."
)


class EvidenceOut(ResponseBody):
    quote: str = Field(
        description="Words that the reasoning quotes and the customer wrote.", examples=["charged twice"]
    )
    message_index: int = Field(description="In which message, counted from 0.", examples=[0])


class DecidedByOut(ResponseBody):
    kind: str = Field(
        description="`definition`, `include`, `exclude` or `none_of_these`.", examples=["include"]
    )
    key: str | None = Field(
        description="The category that it belongs to; null: none of these.", examples=["refund"]
    )
    text: str = Field(
        description="The condition as the schema has it.", examples=["a charge that was made twice"]
    )


class ProbabilityOut(ResponseBody):
    category: str | None = Field(description="Key of a category; null: none of these.", examples=["refund"])
    probability: float = Field(description="All of them add up to 1.", examples=[0.93])


class FeedbackIn(RequestBody):
    right: bool = Field(
        description="Whether the answer was right. If so, its category becomes the label.", examples=[True]
    )
    category_key: str | None = Field(
        None,
        description="Where it was wrong: the right category, which becomes the label; null: none of these. Left out: "
        "nobody has said, and there is no label.",
        max_length=128,
        examples=[None],
    )
    source: LabelSource = Field(
        LabelSource.correction, description=f"Of the label. {_SOURCE}", examples=["correction"]
    )
    dataset_id: UUID | None = Field(
        None,
        description="Where the conversation and its label go: a dataset of the answer's schema. Left out: where they "
        f"are already, else to the dataset `{service.DATASET}` of the schema, which is made where there is none.",
        examples=[_DATASET],
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> "FeedbackIn":
        if self.right and "category_key" in self.model_fields_set:
            raise ValueError("category_key: the answer was right, so its own category is; leave it out")
        if self.source is LabelSource.import_:
            raise ValueError("source: feedback comes from a reviewer or is a correction")
        return self

    def verdict(self, row: KeptAnswer) -> FeedbackVerdict:
        """Raises: InvalidRequest."""
        if self.right:
            return service.right(row, self.source)
        known = "category_key" in self.model_fields_set
        return service.wrong(row, FeedbackVerdict(False, known, self.category_key, self.source))


class FeedbackOut(ResponseBody):
    right: bool = Field(description="Whether the answer was right.", examples=[False])
    labelled: bool = Field(description="Whether the right category is known, and a label.", examples=[True])
    category_key: str | None = Field(
        description="Where it is: the right category; null: none of these.", examples=["refund"]
    )
    source: LabelSource = Field(description=_SOURCE, examples=["correction"])
    given_at: datetime = Field(description="When it was said.", examples=[_TIME])
    dataset_id: UUID | None = Field(
        description="Where the label is; null: there has been none.", examples=[_DATASET]
    )
    conversation_id: UUID | None = Field(description="Of which conversation there.", examples=[_CONVERSATION])


class KeptAnswerOut(AttributesOut):
    id: UUID = Field(description="Of the answer.", examples=[_ID])
    created_at: datetime = Field(description="When it was given.", examples=[_TIME])
    expires_at: datetime = Field(description="When it is removed.", examples=["2026-02-01T10:30:00Z"])
    conversation_reference: str | None = Field(
        description="What the sender calls the conversation.", examples=["chat-20260102-17"]
    )
    messages: list[MessageOut] = Field(
        description="The conversation, without e-mail addresses, telephone, card and account numbers."
    )
    schema_id: UUID = Field(description="The schema that was answered by.", examples=[_SCHEMA])
    schema_version_id: UUID = Field(description="The version of it.", examples=[_VERSION])
    deployment_id: UUID | None = Field(
        description="What answered; null: nothing was deployed.",
        examples=["6b1e0d9a-2c3f-4b5a-9d8e-7f6a5b4c3d2e"],
    )
    model_version_id: UUID | None = Field(
        description="The model that answered; null: the base model.", examples=[_MODEL]
    )
    mode: Mode = Field(description="In which it was answered.", examples=["reasoned"])
    category: str | None = Field(
        description="Key of a category; null: none of these, or no answer (see `abstained` and `failure`).",
        examples=["refund"],
    )
    confidence: float | None = Field(
        description="Probability of the model's answer, as it was shown; null: unknown.", examples=[0.93]
    )
    probabilities: list[ProbabilityOut] | None = Field(
        description="Over all answers, the likeliest first; null: unknown.", examples=[_PROBABILITIES]
    )
    label_mass: float | None = Field(
        description="Of the model's probability, what lay on answers of the schema; null: unknown.",
        examples=[0.998],
    )
    abstained: bool = Field(description="It was below the tenant's `abstain_below`.", examples=[False])
    degraded: bool = Field(
        description="Something else than the deployed model answered in its place.", examples=[False]
    )
    provisional: bool = Field(
        description="The version was served while its gate was still measuring it.", examples=[False]
    )
    failure: ParseFailure | None = Field(
        description="Why the model's text held no answer; null: it did.", examples=[None]
    )
    reasoning: str | None = Field(
        description="Why, in the model's words; null: none was asked for.",
        examples=['They write "charged twice", so "a charge that was made twice" decides.'],
    )
    evidence: list[EvidenceOut] | None = Field(
        description="Quotes of the reasoning that are in the conversation; null: there is none."
    )
    decided_by: DecidedByOut | None = Field(
        description="The condition that decided; null where the reasoning quotes none of the category's own."
    )
    feedback: FeedbackOut | None = Field(description="What was said of it last; null: nothing.")

    @classmethod
    def of(cls, row: KeptAnswer) -> "KeptAnswerOut":
        named: dict[str, Any] = {name: getattr(row, name) for name in cls.model_fields if hasattr(row, name)}
        return cls.model_validate(named | attributes.shown(row) | {"category": row.category_key})


class ForgottenOut(ResponseBody):
    answers: int = Field(description="How many kept answers are gone.", examples=[3])
    conversations: list[UUID] = Field(
        description="Conversations of datasets that are gone, with their labels.", examples=[[_CONVERSATION]]
    )
    runs: list[UUID] = Field(
        description="Runs whose frozen dataset one of them was in; those that had not ended have ended now.",
        examples=[["9b1f6a52-0c3d-4f6e-8a7b-2d5c4e3f1a60"]],
    )
    model_versions: list[UUID] = Field(
        description="Models that were trained or judged with one of them and keep what they learned.",
        examples=[[_MODEL]],
    )

    @classmethod
    def of(cls, forgotten: Forgotten) -> "ForgottenOut":
        return cls(**forgotten._asdict())
