"""Errors as the clients of each wire read them. Statuses and codes are those of every other endpoint, but that OpenAI's
answers a request that cannot be used with 400."""

from typing import Any, Final

from pydantic import Field

from app.http.payload import ResponseBody
from app.http.problems import ErrorShape, ProblemDocument

SYSTEM_ONE_PATH: Final = "/v1/systemone"
DECISIONS_PATH: Final = "/v1/decisions"
MODELS_PATH: Final = "/v1/models"
_JSON: Final = "application/json"
_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class DetailOut(ResponseBody):
    loc: list[str] = Field(
        description="Where in the request.", examples=[["body", "questions.urgent.criteria"]]
    )
    msg: str = Field(description="What is wrong there.", examples=["Field required"])
    type: str = Field(description="The kind of problem for programs; stable.", examples=["invalid_request"])


class SystemOneErrorOut(ResponseBody):
    """How `POST /v1/systemone` says that it does not answer."""

    detail: str | list[DetailOut] = Field(
        description="The problem in a sentence, or what to mend one by one.",
        examples=["no valid API key came with the request"],
    )
    code: str = Field(description="The kind of problem for programs; stable.", examples=["unauthorized"])
    request_id: str = Field(
        description="Under which our log has it.", examples=["5f0c1f6f6d7e4b8a9c0d1e2f3a4b5c6d"]
    )


class DecisionsFaultOut(ResponseBody):
    message: str = Field(description="The problem in a sentence.", examples=["input: is empty"])
    type: str = Field(description="The family of the problem.", examples=["invalid_request_error"])
    param: str | None = Field(description="Where in the request; null: nowhere.", examples=["input"])
    code: str = Field(description="The kind of problem for programs; stable.", examples=["invalid_request"])


class DecisionsErrorOut(ResponseBody):
    """How `POST /v1/decisions` says that it does not answer."""

    error: DecisionsFaultOut = Field(description="The problem.")


def _system_one(found: ProblemDocument) -> dict[str, Any]:
    detail: Any = found.detail
    if found.problems:
        detail = [
            {"loc": _location(one.where), "msg": one.message, "type": found.code} for one in found.problems
        ]
    return {"detail": detail, "code": found.code, "request_id": found.request_id}


def _location(where: str) -> list[str]:
    """The client leaves out `body` where it names the place."""
    first, _, rest = where.partition(".")
    return [first, rest] if rest else [first]


def _decisions(found: ProblemDocument) -> dict[str, Any]:
    where = found.problems[0].where.removeprefix("body.") if found.problems else None
    family = _TYPES.get(found.status, "server_error" if found.status >= 500 else "invalid_request_error")
    return {"error": {"message": found.detail, "type": family, "param": where, "code": found.code}}


def _reference(body: type[ResponseBody]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{body.__name__}"}


SYSTEM_ONE: Final = ErrorShape(_JSON, _reference(SystemOneErrorOut), _system_one)
DECISIONS: Final = ErrorShape(
    _JSON, _reference(DecisionsErrorOut), _decisions, lambda status: 400 if status == 422 else status
)
# Clients of either wire find the sentence of the latter's.
SHAPES: Final = {SYSTEM_ONE_PATH: SYSTEM_ONE, DECISIONS_PATH: DECISIONS, MODELS_PATH: DECISIONS}
BODIES: Final = (SystemOneErrorOut, DecisionsErrorOut)
REQUEST_ID_HEADERS: Final = dict.fromkeys((SYSTEM_ONE_PATH, MODELS_PATH), "X-TypeSafe-Request-ID")
