"""Errors as RFC 9457 problem documents: how one is rendered, and how an endpoint declares those that it may give.

An endpoint that speaks another's wire gives its errors in the shape that the clients of that wire read.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope

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
MAX_MESSAGE_CHARS = 500
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


class ErrorShape(NamedTuple):
    """How errors are written at some paths. schema: of the body, in the OpenAPI document."""

    media_type: str
    schema: Mapping[str, Any]
    body: Callable[[ProblemDocument], dict[str, Any]]
    status: Callable[[int], int] = lambda status: status


PROBLEM = ErrorShape(MEDIA_TYPE, {"$ref": SCHEMA_REF}, lambda found: found.model_dump(exclude_none=True))


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


def render(error: AppError, scope: Scope) -> JSONResponse:
    """scope: of the request, whose path says which shape its client reads."""
    shapes: Mapping[str, ErrorShape] = scope["app"].state.error_shapes
    shape = shapes.get(scope["path"], PROBLEM)
    body = shape.body(document(error, _request_id(scope)))
    return JSONResponse(body, shape.status(error.status), headers=error.headers, media_type=shape.media_type)


def request_id_of(request: Request) -> str:
    return _request_id(request.scope)


def _request_id(scope: Scope) -> str:
    found: str = scope.get("state", {}).get("request_id", "")
    return found


# ------------------------------------------------------------------------------------------ what an endpoint declares


def responses(*errors: type[AppError], shape: ErrorShape = PROBLEM) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of an endpoint behind a key: these errors and those that every such endpoint has."""
    every = (BodyTooSlow, Forbidden, InvalidRequest, TooLarge, Unauthorized, Unavailable)
    return public_responses(*errors, *every, shape=shape)


def public_responses(*errors: type[AppError], shape: ErrorShape = PROBLEM) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of an endpoint that needs no key and no input."""
    kinds: dict[int, dict[str, type[AppError]]] = {}
    every: list[type[AppError]] = [*errors, AppError]
    for error in every:
        kinds.setdefault(shape.status(error.status), {})[error.code] = error
    return {status: _declared(list(kinds[status].values()), shape) for status in sorted(kinds)}


def _declared(kinds: list[type[AppError]], shape: ErrorShape) -> dict[str, Any]:
    examples = {kind.code: {"summary": _summary(kind), "value": shape.body(_example(kind))} for kind in kinds}
    return {
        "description": " ".join(f"`{kind.code}`: {_summary(kind)}" for kind in kinds),
        "content": {shape.media_type: {"schema": dict(shape.schema), "examples": examples}},
    }


def _summary(kind: type[AppError]) -> str:
    return _OURS if kind is AppError else (kind.__doc__ or kind.code).strip().split("\n")[0]


def _example(kind: type[AppError]) -> ProblemDocument:
    return _document(kind, _summary(kind), _SOME_REQUEST)


# ---------------------------------------------------------------------------------------- from whatever was raised


def install(app: FastAPI, shapes: Mapping[str, ErrorShape] = MappingProxyType({})) -> None:
    """What nobody expected is answered by `app.http.middleware`, which also logs it. shapes: by path."""
    app.state.error_shapes = shapes
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
    return render(error, request.scope)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    if isinstance(error.body, bytes):  # FastAPI parses what is said to be JSON, and nothing else
        problems = [_not_json(request.headers.get("content-type", ""))]
    else:
        problems = [_of_field(found) for found in error.errors()[:MAX_PROBLEMS]]
    message = "; ".join(f"{p.where}: {p.message}" for p in problems[:3])
    return render(InvalidRequest(message, problems=problems), request.scope)


def _not_json(content_type: str) -> Problem:
    more = "; files and images are not read" if content_type.lower().startswith("multipart/") else ""
    return Problem("body", f"send it as Content-Type: application/json{more}")


def _of_field(found: Mapping[str, Any]) -> Problem:
    if found["type"] == "json_invalid":
        return Problem("body", f"is not JSON: {found['ctx']['error']} at character {found['loc'][-1]}")
    where = ".".join(str(part) for part in found["loc"])
    if found["type"] == "union_tag_not_found":
        return Problem(where, f"has no {found['ctx']['discriminator']}, which says what it is")
    message = found["msg"].removeprefix("Value error, ")
    # Of a value that chooses between types, Pydantic repeats all that somebody wrote.
    return Problem(where, message if len(message) <= MAX_MESSAGE_CHARS else f"{message[:MAX_MESSAGE_CHARS]}…")


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return render(_of_http(error), request.scope)


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
