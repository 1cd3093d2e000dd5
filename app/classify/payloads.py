from typing import Annotated, TypeAlias
from uuid import UUID

from pydantic import Field, JsonValue, ValidationError, model_validator

from app.answers.payloads import DecidedByOut, EvidenceOut, ProbabilityOut
from app.classify.live import AnswerGate, Draft, SchemaChoice
from app.classify.service import Answered
from app.datasets.attributes import AttributesIn
from app.datasets.conversation_payloads import MessageIn
from app.errors import AppError, InvalidRequest, Problem
from app.gates.confidence import Fitted
from app.http.bodies import MAX_BODY_BYTES
from app.http.payload import Name, RequestBody, ResponseBody
from app.http.problems import ProblemDocument, document
from app.schemas import service as schemas
from app.schemas.drafts import MAX_CONDITIONS
from app.schemas.payloads import MAX_NUMBER
from evaluation.contract import record
from evaluation.contract.mode import Mode, ModeChoice, ReasoningOrder
from evaluation.contract.parse import ParseFailure
from evaluation.contract.record import MAX_MESSAGES, Conversation, Reference, conversation_from_text
from evaluation.contract.schema import MAX_CATEGORIES, MAX_CONDITION_CHARS, CategorySchema

MAX_BATCH = 256
_TEXT = "I was charged twice for one order."
_MESSAGES = [{"role": "customer", "text": _TEXT}]
_CATEGORY = "Key of a category; null: none of these, or no answer (see `abstained` and `failure`)."
_PROBABILITIES: list[JsonValue] = [
    {"category": "refund", "probability": 0.93},
    {"category": None, "probability": 0.07},
]


class QuestionIn(AttributesIn):
    """Either `text` or `messages`. What is known beside them is kept with the answer, where answers are kept."""

    text: str | None = Field(
        None, description="One message of a customer.", max_length=100_000, examples=[_TEXT]
    )
    messages: list[MessageIn] | None = Field(
        None,
        description="A conversation in its order; it is classified as of its last customer message.",
        min_length=1,
        max_length=MAX_MESSAGES,
        fail_fast=True,
        examples=[None, _MESSAGES],
    )
    conversation_reference: Reference | None = Field(
        None,
        description="What the sender calls the conversation, to find and delete its answers by later.",
        examples=["chat-20260102-17"],
    )

    def conversation(self, where: str) -> Conversation:
        """where: what the caller calls this part of the body. Raises: InvalidRequest."""
        if (self.text is None) == (self.messages is None):
            raise _invalid(where, "give either `text` or `messages`")
        try:
            known = self.attributes() | {"conversation_reference": self.conversation_reference}
            if self.text is not None:
                return conversation_from_text(self.text).model_copy(update=known)
            messages = [message.model_dump() for message in self.messages or ()]
            return Conversation.model_validate({"id": "messages", "messages": messages} | known)
        except ValidationError as error:
            raise _invalid(where, record.first_problem(error)) from None


Text: TypeAlias = Annotated[str, Field(max_length=MAX_CONDITION_CHARS)]


class CategoryIn(RequestBody):
    """As in a schema."""

    key: str = Field(
        description="What the answer says; without spaces.",
        max_length=MAX_CONDITION_CHARS,
        examples=["refund"],
    )
    name: Text | None = Field(None, description="For people; left out: the key.", examples=["Refund"])
    definition: Text = Field(
        description="One sentence.", examples=["The customer wants money back for something already paid."]
    )
    includes: list[Text] = Field(
        [], description="Conditions that bring a request in.", max_length=MAX_CONDITIONS, examples=[[]]
    )
    excludes: list[Text] = Field(
        [], description="Conditions that keep one out.", max_length=MAX_CONDITIONS, examples=[[]]
    )


class SchemaChoiceIn(RequestBody):
    """One of `schema_id`, `schema` and `categories`, and how to answer."""

    schema_id: UUID | None = Field(
        None, description="The schema to answer by.", examples=["3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"]
    )
    schema_name: Name | None = Field(
        None, alias="schema", description="Its name, instead of its id.", examples=[None, "order questions"]
    )
    schema_version: Annotated[int, Field(ge=1, le=MAX_NUMBER)] | Draft | None = Field(
        None,
        description="Number of a published version, or `draft`. Another one than is live is answered by the base as it "
        "stands (`gate: none`), as the tenant's `ungated` allows. Left out: what is live; where nothing is, the "
        "version published last, and before the first the draft.",
        examples=[None, 2, "draft"],
    )
    categories: list[CategoryIn] | None = Field(
        None,
        description="Categories of this request, instead of a schema; nothing of them is stored. The base as it stands "
        "answers (`gate: none`), as the tenant's `ungated` allows.",
        min_length=1,
        max_length=MAX_CATEGORIES,
        examples=[None],
    )
    none_of_these: bool = Field(
        False, description="With `categories`: whether the answer may be none of them.", examples=[False]
    )
    question: Text | None = Field(
        None,
        description="With `categories`: what is asked, in place of the category of the request.",
        examples=[None],
    )

    mode: ModeChoice | None = Field(
        None,
        description="`reasoned`: the reasoning is written, then the code. `fast`: the code at once. Of a deployment "
        "each needs a gate of its own that has passed. `auto`: fast, and reasoned only where fast is unsure; it needs "
        "both. Left out: the one that is deployed, or the tenant's.",
        examples=["fast"],
    )
    explain: bool = Field(
        False,
        description="What is answered at once gets its reasons too, written after the decision, which they do not "
        "change (`reasoning_order: after`).",
        examples=[True],
    )

    @model_validator(mode="after")
    def _names_one(self) -> "SchemaChoiceIn":
        if sum(given is not None for given in (self.schema_id, self.schema_name, self.categories)) != 1:
            raise ValueError("give one of `schema_id`, `schema` (the schema's name) and `categories`")
        if self.categories is None and self.model_fields_set & {"none_of_these", "question"}:
            raise ValueError(
                "`none_of_these` and `question` go with `categories`; a stored schema has its own"
            )
        if self.categories is not None and self.schema_version is not None:
            raise ValueError("`schema_version` goes with a stored schema; `categories` have none")
        return self

    async def chosen(self) -> SchemaChoice | CategorySchema:
        """Raises: SchemaNotReady."""
        if self.categories is None:
            named = self.schema_id or self.schema_name
            assert named is not None
            return SchemaChoice(named, self.schema_version)
        written = [one.model_dump() | {"name": one.name or one.key} for one in self.categories]
        draft = {"categories": written, "none_of_these": self.none_of_these, "question": self.question}
        return await schemas.ready(draft, "request")


class ClassifyIn(SchemaChoiceIn, QuestionIn):
    """One conversation, and the schema to answer by."""

    MAX_BYTES = MAX_BODY_BYTES


class BatchItemIn(QuestionIn):
    id: str = Field(
        description="The sender's own; its result has it too.", min_length=1, max_length=256, examples=["1"]
    )


class BatchIn(SchemaChoiceIn):
    MAX_BYTES = MAX_BODY_BYTES

    items: list[BatchItemIn] = Field(
        description="Conversations to answer.",
        min_length=1,
        max_length=MAX_BATCH,
        examples=[[{"id": "1", "text": _TEXT}]],
    )

    @model_validator(mode="after")
    def _distinct(self) -> "BatchIn":
        seen: set[str] = set()
        for item in self.items:
            if item.id in seen:
                raise ValueError(f"the item id {item.id[:60]!r} is used twice")
            seen.add(item.id)
        return self


class CalibrationOut(ResponseBody):
    method: str = Field(
        description="How confidences were made to match how often the model is right: `temperature`, fitted by the "
        "gate on this model and schema version; `none`: they are the model's own.",
        examples=["temperature"],
    )
    n: int = Field(
        description="Answers to held-out conversations that the gate fitted it on; with `none`, how many there were: "
        "too few, or without a mistake.",
        examples=[240],
    )
    ece: float | None = Field(
        description="Expected calibration error of the confidences shown, on other held-out conversations; null: not "
        "measured.",
        examples=[0.03],
    )

    @classmethod
    def of(cls, fitted: Fitted) -> "CalibrationOut":
        return cls(method=fitted.method, n=fitted.n, ece=fitted.ece)


class TokensOut(ResponseBody):
    prompt_tokens: int | None = Field(
        description="Read by the model; null here and below where its server did not count.", examples=[612]
    )
    completion_tokens: int | None = Field(description="Written by the model.", examples=[48])
    cached_tokens: int | None = Field(description="Of those read, known from before.", examples=[480])


class AnswerOut(ResponseBody):
    id: UUID = Field(description="Of this answer.", examples=["d3b9a3a4-8a52-4a33-9a3c-2f3b7e8c9a10"])
    category: str | None = Field(description=_CATEGORY, examples=["refund"])
    mode: Mode = Field(
        description="How the answer was come by: `reasoned`, or `fast`, the code at once. Of `auto` it is the last one "
        "that was asked.",
        examples=["reasoned"],
    )
    reasoning: str | None = Field(
        description="Why, in the model's words; null: none was asked for.",
        examples=['They write "charged twice", so "a charge that was made twice" decides.'],
    )
    reasoning_order: ReasoningOrder | None = Field(
        description="`before`: the reasoning was written first, and the answer from it. `after`: it explains an answer "
        "that was given already. Null: there is none.",
        examples=["before"],
    )
    evidence: list[EvidenceOut] | None = Field(
        description="Quotes of the reasoning that are in the conversation; null: there is none."
    )
    decided_by: DecidedByOut | None = Field(
        description="The condition that decided; null where the reasoning quotes none of the category's own."
    )
    confidence: float | None = Field(
        description="Probability of the model's answer, see `calibration`; null: unknown.", examples=[0.93]
    )
    probabilities: list[ProbabilityOut] | None = Field(
        description="Over all answers, the likeliest first, see `calibration`; null: unknown.",
        examples=[_PROBABILITIES],
    )
    label_mass: float | None = Field(
        description="Of the model's probability, what lay on answers of the schema at all; null: unknown.",
        examples=[0.998],
    )
    calibration: CalibrationOut = Field(description="How far `confidence` may be believed.")
    abstained: bool = Field(
        description="The confidence was below the tenant's `abstain_below`, so no category is given.",
        examples=[False],
    )
    failure: ParseFailure | None = Field(
        description="Why the model's text holds no answer; null: it does.", examples=[None]
    )
    forced_read: bool = Field(
        description="The model wrote no answer by itself, so its likeliest one was read.", examples=[False]
    )
    model_version: UUID | None = Field(
        description="Id of the model that answered; null: the base as it stands, as the tenant's `ungated` or "
        "`fallback` allows.",
        examples=["4f2d9c1b-6a7e-4d30-8c55-1b2a3c4d5e6f"],
    )
    schema_version: int | None = Field(
        description="Number of the version answered by; null: a draft, or categories of the request.",
        examples=[2],
    )
    gate: AnswerGate = Field(
        description="What stands behind the answer. `passed`: the model's gate under this version. `provisional`: that "
        "gate has not ended. `none`: the base as it stands answered, which nobody has examined.",
        examples=["passed"],
    )
    deployment_id: UUID | None = Field(
        description="What answered: the live deployment, or where degraded the one before it, or the one that the base "
        "stood in for; null: nothing is deployed.",
        examples=["6b1e0d9a-2c3f-4b5a-9d8e-7f6a5b4c3d2e"],
    )
    provisional: bool = Field(
        description="The version is served while its gate is still measuring it.", examples=[False]
    )
    degraded: bool = Field(
        description="Something else than the deployed model answered in its place.", examples=[False]
    )
    usage: TokensOut = Field(description="Tokens of this answer.")
    latency_ms: float = Field(description="Time in the service, the model's included.", examples=[84.2])

    @classmethod
    def of(cls, answered: Answered) -> "AnswerOut":
        found, live = answered.prediction, answered.serving.live
        return cls(
            id=answered.id,
            category=None if answered.abstained else found.category,
            mode=found.mode,
            reasoning=found.reasoning,
            reasoning_order=found.reasoning_order,
            evidence=None
            if found.evidence is None
            else [EvidenceOut.model_validate(e) for e in found.evidence],
            decided_by=None if found.decided_by is None else DecidedByOut.model_validate(found.decided_by),
            confidence=found.confidence,
            probabilities=_sorted(found.probabilities),
            label_mass=found.label_mass,
            calibration=CalibrationOut.of(live.calibrations[found.mode]),
            abstained=answered.abstained,
            failure=found.failure,
            forced_read=found.forced_read,
            model_version=live.model_version_id,
            schema_version=None if live.version is None else live.version.number,
            gate=answered.serving.gate,
            deployment_id=live.deployment_id,
            provisional=live.provisional,
            degraded=answered.serving.degraded,
            usage=TokensOut.model_validate(found),
            latency_ms=round(answered.latency_s * 1000, 2),
        )


class BatchResultOut(ResponseBody):
    id: str = Field(description="Of the item.", examples=["1"])
    answer: AnswerOut | None = Field(description="Its answer; null where there is a problem.")
    problem: ProblemDocument | None = Field(description="Why it has none; null where there is an answer.")

    @classmethod
    def of(cls, item_id: str, result: Answered | AppError, request_id: str) -> "BatchResultOut":
        if isinstance(result, AppError):
            return cls(id=item_id, answer=None, problem=document(result, request_id))
        return cls(id=item_id, answer=AnswerOut.of(result), problem=None)


class BatchOut(ResponseBody):
    results: list[BatchResultOut] = Field(description="One for each item, in the same order.")


class ReasoningOut(ResponseBody):
    text: str = Field(description="The next piece of the reasoning.", examples=["They write "])


def _sorted(probabilities: dict[str | None, float] | None) -> list[ProbabilityOut] | None:
    if probabilities is None:
        return None
    pairs = sorted(probabilities.items(), key=lambda pair: -pair[1])
    return [ProbabilityOut(category=category, probability=p) for category, p in pairs]


def _invalid(where: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{where}: {message}", problems=[Problem(where, message)])
