"""The list of models, in one body that the clients of both wires read."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import Field

from app.decisions.repository import PublishedSchema
from app.decisions.standing import AD_HOC, model_of
from app.http.payload import ResponseBody

_SINCE: Final = datetime(2026, 11, 29, tzinfo=UTC)  # when the wires were first spoken
_AD_HOC: Final = "Questions that come with their options, answered by the base as it stands."


class DecisionsModelOut(ResponseBody):
    id: str = Field(description="What a call names as its model.", examples=["support"])
    object: Literal["model"] = Field("model", description="Always `model`.", examples=["model"])
    created: int = Field(description="Seconds since 1970.", examples=[1795910400])
    owned_by: str = Field(description="Always `steerwise`.", examples=["steerwise"])


class SystemOneModelOut(ResponseBody):
    name: str = Field(description="What a call names as its model.", examples=["support"])
    description: str = Field(description="What it answers.", examples=["The schema 'support'."])
    release_date: str = Field(description="Its day.", examples=["2026-11-29"])


class ModelsOut(ResponseBody):
    object: Literal["list"] = Field("list", description="Always `list`.", examples=["list"])
    data: list[DecisionsModelOut] = Field(description="As clients of the Decisions wire read it.")
    models: list[SystemOneModelOut] = Field(
        description="The same, as clients of the System One wire read it."
    )

    @classmethod
    def of(cls, schemas: Sequence[PublishedSchema]) -> "ModelsOut":
        found = [(AD_HOC, _AD_HOC, _SINCE)]
        for name, first_at in schemas:
            found.append((model_of(name), f"The own question of the schema {name!r}.", first_at))
        return cls(
            data=[
                DecisionsModelOut(id=name, created=int(since.timestamp()), owned_by="steerwise")
                for name, _, since in found
            ],
            models=[
                SystemOneModelOut(name=name, description=said, release_date=since.date().isoformat())
                for name, said, since in found
            ],
        )
