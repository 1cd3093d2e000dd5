"""What every body that comes in or goes out has in common."""

import math
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from app.errors import Problem

MAX_DEPTH = 32
Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$"),
]


class Payload(BaseModel):
    """A body that comes in: no unknown fields, and nothing that a database column cannot hold."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, raw: Any) -> Any:
        problem = next(unstorable(raw), None)
        if problem is not None:
            raise ValueError(f"{problem.where or 'the body'} {problem.message}")
        return raw


class Answer(BaseModel):
    """A body that goes out. Every field is sent, so that a reader can tell null from missing."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


def unstorable(value: Any, where: str = "", depth: int = 0) -> Iterator[Problem]:
    """Parts of a parsed JSON value that PostgreSQL's JSON or text refuses, or that would exhaust the stack."""
    match value:
        case _ if depth > MAX_DEPTH:
            yield Problem(where, f"is nested more than {MAX_DEPTH} levels deep")
        case str():
            if "\x00" in value:
                yield Problem(where, "contains a NUL character")
            elif not _is_unicode(value):
                yield Problem(where, "contains half of a surrogate pair, which is not a character")
        case float() if not math.isfinite(value):
            yield Problem(where, "is not a number that JSON knows")
        case dict():
            for key, inner in value.items():
                yield from unstorable(key, f"{where} (a key)".strip(), depth + 1)
                yield from unstorable(inner, f"{where}.{key[:100]!a}".lstrip("."), depth + 1)
        case list():
            for number, inner in enumerate(value):
                yield from unstorable(inner, f"{where}[{number}]", depth + 1)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
