"""What every body that comes in or goes out has in common."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from app.errors import Problem
from evaluation.contract.strict_json import unusable

Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$"),
]


class RequestBody(BaseModel):
    """A body that comes in: no unknown fields, and nothing that a database column cannot hold."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, raw: Any) -> Any:
        problem = next(unstorable(raw), None)
        if problem is not None:
            raise ValueError(f"{problem.where or 'the body'} {problem.message}")
        return raw


class ResponseBody(BaseModel):
    """A body that goes out. Every field is sent, so that a reader can tell null from missing."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


def unstorable(value: Any) -> Iterator[Problem]:
    """Parts of a parsed JSON value that PostgreSQL's JSON or text refuses, or that would exhaust the stack."""
    return (Problem(*found) for found in unusable(value))
