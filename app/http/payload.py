"""What every body that comes in or goes out has in common."""

from itertools import islice
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from app.http.bodies import SMALL_BODY_BYTES

Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$"),
]


MAX_UNKNOWN = 10  # fields that nobody reads and that are each told of


class RequestBody(BaseModel):
    """A body that comes in, or a part of one: no unknown fields. What it holds was looked through as it was read.

    MAX_BYTES: how long a body may be that is one of these.
    """

    MAX_BYTES: ClassVar[int] = SMALL_BODY_BYTES
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_unknown(cls, raw: Any) -> Any:
        """Pydantic would make a problem of each, a megabyte of them."""
        if not isinstance(raw, dict) or len(raw) <= len(cls.model_fields) + MAX_UNKNOWN:
            return raw
        names = {field.alias or name for name, field in cls.model_fields.items()}
        unknown = islice((name for name in raw if name not in names), MAX_UNKNOWN)
        return {name: raw[name] for name in (*(names & raw.keys()), *unknown)}


class ResponseBody(BaseModel):
    """A body that goes out. Every field is sent, so that a reader can tell null from missing."""

    model_config = ConfigDict(from_attributes=True, frozen=True)
