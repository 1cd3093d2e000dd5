"""What both wires have in common, and neither has by itself: our additions to them."""

from uuid import UUID

from pydantic import Field

from app.classify.live import AnswerGate
from app.decisions.question import MAX_ORDERS, MAX_READS
from app.decisions.reading import Behind
from app.http.bodies import MAX_BODY_BYTES
from app.http.payload import RequestBody, ResponseBody
from evaluation.contract.mode import Mode, ModeChoice


class AskingIn(RequestBody):
    """How to answer. Clients of the wires send these as additional fields of the body."""

    MAX_BYTES = MAX_BODY_BYTES

    model: str = Field(
        description="`steerwise` for questions that come with their options, or the name of a schema: a choice without "
        "descriptions is then that schema's own question, and is answered by what is deployed for it.",
        min_length=1,
        max_length=200,
        examples=["steerwise"],
    )
    mode: ModeChoice | None = Field(
        None,
        description="`fast`: the answer is read at once; `reasoned`: reasoning is written first. Left out: `fast`, and "
        "for a schema's own question the mode that is deployed. `auto` is for those alone.",
        examples=["fast"],
    )
    orders: int = Field(
        1,
        description="In how many orders the options of each question are read; the probabilities are averaged. "
        f"Questions times orders, and prompts of a call: at most {MAX_READS}.",
        ge=1,
        le=MAX_ORDERS,
        examples=[1],
    )


class BehindOut(ResponseBody):
    """What stands behind an answer."""

    mode: Mode = Field(description="How the answer was come by.", examples=["fast"])
    gate: AnswerGate = Field(
        description="`passed`, on this schema; `provisional`: on an edit of it, it has not ended; `none`: the base as "
        "it stands, examined by nobody.",
        examples=["none"],
    )
    schema_name: str | None = Field(
        description="The schema whose own question it is; null here and below: the question is no schema's.",
        examples=["support"],
    )
    schema_version: int | None = Field(description="Number of the version answered by.", examples=[2])
    deployment_id: UUID | None = Field(
        description="What answered.", examples=["6b1e0d9a-2c3f-4b5a-9d8e-7f6a5b4c3d2e"]
    )
    model_version_id: UUID | None = Field(
        description="The model that answered; null: the base.",
        examples=["4f2d9c1b-6a7e-4d30-8c55-1b2a3c4d5e6f"],
    )
    degraded: bool = Field(
        description="Something else than the deployed model answered in its place.", examples=[False]
    )
    abstained: bool = Field(
        description="The confidence was below the tenant's `abstain_below`: no answer should be taken from it.",
        examples=[False],
    )
    label_mass: float | None = Field(
        description="Of the model's probability, what lay on the options at all; null: unknown.",
        examples=[0.998],
    )
    reasoning: str | None = Field(
        description="Why, in the model's words; null: none was asked for.", examples=[None]
    )
    orders: int = Field(description="Orders of the options that were averaged.", examples=[1])
    reads: int = Field(description="Prompts that the answer took.", examples=[1])
    not_shown: list[str] = Field(
        description="What was given and the model did not see: `instructions`, where a schema asks in its own words.",
        examples=[[]],
    )

    @classmethod
    def of(cls, behind: Behind) -> "BehindOut":
        return cls.model_validate(behind)
