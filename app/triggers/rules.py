"""What a trigger waits for, as it is written and kept."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, TypeAdapter, field_validator, model_validator

from app.http.payload import RequestBody
from app.infra.tables.triggers import TriggerKind
from app.triggers import cron

_MAX_WINDOW_H = 720  # two of them are kept: what is compared, and with what
_WINDOW = "Of so many hours, up to now; they are compared with as many hours from the first answers on."
_ANSWERS = "How many answers there must be in each of the two."


class ByHandRule(RequestBody):
    """Never by itself."""

    kind: Literal[TriggerKind.by_hand] = Field(description="By hand.", examples=["by_hand"])


class ScheduleRule(RequestBody):
    """By the clock, in UTC. A time that passed while nobody checked is made up for once."""

    kind: Literal[TriggerKind.schedule] = Field(description="By the clock, in UTC.", examples=["schedule"])
    cron: str | None = Field(
        None,
        description="Five fields: minute, hour, day of the month, month, day of the week. Give this or `every_days`.",
        max_length=100,
        examples=["0 3 * * 1"],
    )
    every_days: int | None = Field(
        None, description="So many days after the run before.", ge=1, le=365, examples=[None]
    )

    @field_validator("cron")
    @classmethod
    def _can_be_read(cls, text: str | None) -> str | None:
        return None if text is None else cron.normal(text)

    @model_validator(mode="after")
    def _one_of_the_two(self) -> "ScheduleRule":
        if (self.cron is None) == (self.every_days is None):
            raise ValueError("give either cron or every_days")
        return self


class CorrectionsRule(RequestBody):
    """After so many corrections in the trigger's dataset since the newest run on it."""

    kind: Literal[TriggerKind.corrections] = Field(description="Corrections.", examples=["corrections"])
    corrections: int = Field(
        description="Conversations of the trigger's dataset that were labelled by a reviewer or a correction since "
        "the newest run on it.",
        ge=1,
        le=1_000_000,
        examples=[100],
    )


class Comparing(RequestBody):
    """What was answered lately is compared with what was answered at first."""

    window_h: int = Field(168, description=_WINDOW, ge=1, le=_MAX_WINDOW_H, examples=[168])
    min_answers: int = Field(200, description=_ANSWERS, ge=50, le=10_000_000, examples=[200])


class DriftRule(Comparing):
    """The shares of answers have moved: the population stability index."""

    kind: Literal[TriggerKind.drift] = Field(description="Drift of what is answered.", examples=["drift"])
    threshold: float = Field(
        0.2,
        description="Of the population stability index. By convention 0.1 is a small shift and 0.25 a large one.",
        ge=0.01,
        le=10,
        examples=[0.2],
    )


class NoneRateRule(Comparing):
    """More answers are none of these."""

    kind: Literal[TriggerKind.none_rate] = Field(description="More none of these.", examples=["none_rate"])
    rise: float = Field(
        0.1,
        description="By how much their share has grown: 0.1 is ten points.",
        ge=0.01,
        le=1,
        examples=[0.1],
    )


class LabelMassRule(Comparing):
    """Less of the model's probability lies on answers of the schema."""

    kind: Literal[TriggerKind.label_mass] = Field(description="Less label mass.", examples=["label_mass"])
    fall: float = Field(0.05, description="By how much its mean has fallen.", ge=0.001, le=1, examples=[0.05])


class FailedEditRule(RequestBody):
    """A published edit failed its gate on the live model, and is still the current version."""

    kind: Literal[TriggerKind.failed_edit] = Field(
        description="An edit that failed its gate.", examples=["failed_edit"]
    )


Rule: TypeAlias = Annotated[
    ByHandRule | ScheduleRule | CorrectionsRule | DriftRule | NoneRateRule | LabelMassRule | FailedEditRule,
    Field(discriminator="kind"),
]
_RULE: TypeAdapter[Rule] = TypeAdapter(Rule)


def stored(rule: Rule) -> dict[str, Any]:
    return rule.model_dump(mode="json")


def read(kept: dict[str, Any]) -> Rule:
    return _RULE.validate_python(kept)
