"""Errors as RFC 9457 problem documents: how one is rendered, and how an endpoint declares those that it may give."""

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from app.errors import (
    AppError,
    BodyTooSlow,
    Forbidden,
    InputError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Problem,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from app.infra import outage

MEDIA_TYPE = "application/problem+json"
SCHEMA_REF = "#/components/schemas/Problem"
MAX_PROBLEMS = 200
_SOME_REQUEST = "5f0c1f6f6d7e4b8a9c0d1e2f3a4b5c6d"
_OURS = "something went wrong on our side; it was logged under this request id"
_outages = outage.OutageLog()
log = structlog.get_logger()


class ProblemEntry(BaseModel):
    where: str = Field(
        description="The field or place.", examples=["body.name", "category 'refund', definition"]
    )
    message: str = Field(description="What is wrong with it.", examples=["is empty; write one sentence"])


class ProblemDocument(BaseModel):
    """Every error is answered with one of these (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(
        description="Names the kind of problem; ends with `code`.",
        examples=["urn:problem-type:steerwise:not_found"],
    )
    title: str = Field(description="The kind of problem in words.", examples=["Not found"])
    status: int = Field(description="The HTTP status.", examples=[404], ge=400, le=599)
    detail: str = Field(description="This occurrence, in a sentence.", examples=["there is no such schema"])
    code: str = Field(description="The kind of problem for programs; stable.", examples=["not_found"])
    request_id: str = Field(description="Under which our log has it.", examples=[_SOME_REQUEST])
    problems: list[ProblemEntry] | None = Field(
        None, description="What to mend, one by one; absent where there is nothing to list."
    )


def document(error: AppError, request_id: str) -> ProblemDocument:
    found = error.problems
    if isinstance(error, InputError) and not found:
        found = tuple(Problem("", line) for line in error.details)
    entries = [ProblemEntry(where=p.where, message=p.message) for p in found[:MAX_PROBLEMS]]
    told = error.status < 500 or outage.passes(error)
    return _document(type(error), str(error) if told else _OURS, request_id, entries or None)


def _document(
    kind: type[AppError], detail: str, request_id: str, problems: list[ProblemEntry] | None = None
) -> ProblemDocument:
    return ProblemDocument(
        type=f"urn:problem-type:steerwise:{kind.code}",
        title=kind.code.replace("_", " ").capitalize(),
        status=kind.status,
        detail=detail,
        code=kind.code,
        request_id=request_id,
        problems=problems,
    )


def render(error: AppError, request_id: str) -> JSONResponse:
    body = document(error, request_id).model_dump(exclude_none=True)
    return JSONResponse(body, error.status, headers=error.headers, media_type=MEDIA_TYPE)


def request_id_of(request: Request) -> str:
    found: str = request.scope.get("state", {}).get("request_id", "")
    return found


# ------------------------------------------------------------------------------------------ what an endpoint declares


def responses(*errors: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of an endpoint behind a key: these errors and those that every such endpoint has."""
    return public_responses(
        *errors, BodyTooSlow, Forbidden, InvalidRequest, TooLarge, Unauthorized, Unavailable
    )


def public_responses(*errors: type[AppError]) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of an endpoint that needs no key and no input."""
    kinds: dict[int, dict[str, type[AppError]]] = {}
    every: list[type[AppError]] = [*errors, AppError]
    for error in every:
        kinds.setdefault(error.status, {})[error.code] = error
    return {status: _declared(list(kinds[status].values())) for status in sorted(kinds)}


def _declared(kinds: list[type[AppError]]) -> dict[str, Any]:
    examples = {
        kind.code: {"summary": _summary(kind), "value": _example(kind).model_dump(exclude_none=True)}
        for kind in kinds
    }
    return {
        "description": " ".join(f"`{kind.code}`: {_summary(kind)}" for kind in kinds),
        "content": {MEDIA_TYPE: {"schema": {"$ref": SCHEMA_REF}, "examples": examples}},
    }


def _summary(kind: type[AppError]) -> str:
    return _OURS if kind is AppError else (kind.__doc__ or kind.code).strip().split("\n")[0]


def _example(kind: type[AppError]) -> ProblemDocument:
    return _document(kind, _summary(kind), _SOME_REQUEST)


# ---------------------------------------------------------------------------------------- from whatever was raised


def install(app: FastAPI) -> None:
    """What nobody expected is answered by `app.http.middleware`, which also logs it."""
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)


def unexpected(error: Exception) -> AppError:
    """What is answered where no code of ours raised an error of ours. An outage is no mistake, and says so."""
    known = outage.told(error)
    if known is None:
        log.exception("unexpected_error")
        return AppError("unexpected")
    _outages.note(known, error)
    return known


async def _app_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AppError)
    if outage.passes(error):
        _outages.note(error, error)
    elif error.status >= 500:
        log.error("request_failed", code=error.code, error=str(error), details=error.details)
    return render(error, request_id_of(request))


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [_of_field(found) for found in error.errors()[:MAX_PROBLEMS]]
    message = "; ".join(f"{p.where}: {p.message}" for p in problems[:3])
    return render(InvalidRequest(message, problems=problems), request_id_of(request))


def _of_field(found: Mapping[str, Any]) -> Problem:
    if found["type"] == "json_invalid":
        return Problem("body", f"is not JSON: {found['ctx']['error']} at character {found['loc'][-1]}")
    where = ".".join(str(part) for part in found["loc"])
    return Problem(where, found["msg"].removeprefix("Value error, "))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return render(_of_http(error), request_id_of(request))


def _of_http(error: HTTPException) -> AppError:
    """FastAPI and Starlette raise these: no route, a wrong method, a body that cannot be read."""
    if isinstance(error.__cause__, AppError):  # from reading the body, which FastAPI wraps in a 400
        return error.__cause__
    match error.status_code:
        case 404:
            return NotFound("there is no such path")
        case 405:
            return MethodNotAllowed("this path does not take that method", headers=error.headers)
        case 400:
            problem = Problem("body", "cannot be read as UTF-8 JSON")
            return InvalidRequest(f"{problem.where}: {problem.message}", problems=[problem])
    raise error  # nothing here raises another; if a library does, it is logged and answered as our mistake
