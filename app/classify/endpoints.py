from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from app.auth.route import keyed_router
from app.classify import service
from app.classify.deadline import while_wanted
from app.classify.dependencies import Client
from app.classify.live import ClassifyCaller
from app.classify.payloads import (
    AnswerOut,
    BatchIn,
    BatchItemIn,
    BatchOut,
    BatchResultOut,
    ClassifyIn,
    ReasoningOut,
    SchemaChoiceIn,
)
from app.classify.refusals import (
    ConversationTooLong,
    ModelNotServed,
    ModeNotGated,
    NothingDeployed,
    UngatedNotAllowed,
)
from app.classify.service import Answered, ClassifyContext, ServingContext
from app.errors import (
    AppError,
    Forbidden,
    NotFound,
    ServingAway,
    ShareExceeded,
    TooManyRequests,
    Unavailable,
)
from app.http.problems import document, request_id_of, responses
from app.schemas.service import SchemaNotReady
from evaluation.contract.record import Conversation
from evaluation.inference import event_stream

router = keyed_router("/v1/classify", tags=["classify"])
_ERRORS = responses(
    Forbidden,
    NotFound,
    NothingDeployed,
    UngatedNotAllowed,
    ModelNotServed,
    ModeNotGated,
    SchemaNotReady,
    TooManyRequests,
    ShareExceeded,
    ConversationTooLong,
    ServingAway,
)
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `reasoning` with the next piece of it, again and again, then one "
        "`answer` as `POST /v1/classify` gives it, or one `problem`.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'event: reasoning\ndata: {"text":"They write "}\n\n',
            }
        },
    }
}
_LIVE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # a proxy that gathers pieces would undo it


@router.post("", operation_id="classify_conversation", responses=_ERRORS)
async def one(body: ClassifyIn, request: Request, caller: Client) -> AnswerOut:
    """Answer one conversation: with the schema's live deployment, or without one with the base as it stands, which no
    gate has examined, as far as the tenant allows."""
    serving_context = _serving_context(request)
    conversation = body.conversation("body")
    classify_context = await _classify_context(serving_context, request, caller, body)
    answering = service.answer(serving_context, classify_context, conversation)
    return AnswerOut.of(await while_wanted(request, answering))


@router.post("/batch", operation_id="classify_batch", responses=_ERRORS)
async def batch(body: BatchIn, request: Request, caller: Client) -> BatchOut:
    """Answer up to 256 conversations. What goes wrong with one of them is its result, and no matter of the others."""
    serving_context = _serving_context(request)
    classify_context = await _classify_context(serving_context, request, caller, body, len(body.items))
    asked = [_conversation(item, f"body.items[{number}]") for number, item in enumerate(body.items)]
    answering = service.answer_all(serving_context, classify_context, asked)
    results = await while_wanted(request, answering)
    away = [result for result in results if isinstance(result, Unavailable | ShareExceeded)]
    if len(away) == len(results):
        raise away[0]
    made = [
        BatchResultOut.of(item.id, result, request_id_of(request))
        for item, result in zip(body.items, results, strict=True)
    ]
    return BatchOut(results=made)


@router.post(
    "/stream",
    operation_id="classify_stream",
    response_class=StreamingResponse,
    responses=_ERRORS | _STREAM,
)
async def stream(body: ClassifyIn, request: Request, caller: Client) -> StreamingResponse:
    """Answer one conversation, its reasoning as it is written. Until the first piece is there an error is a status."""
    serving_context = _serving_context(request)
    conversation = body.conversation("body")
    classify_context = await _classify_context(serving_context, request, caller, body)
    pieces = service.stream(serving_context, classify_context, conversation)
    first = await while_wanted(request, anext(pieces))
    return StreamingResponse(_events(first, pieces, request), media_type="text/event-stream", headers=_LIVE)


async def _classify_context(
    serving_context: ServingContext,
    request: Request,
    caller: ClassifyCaller,
    body: SchemaChoiceIn,
    conversations: int = 1,
) -> ClassifyContext:
    await serving_context.limits.take(caller.scope, conversations)
    return await service.classify_context(
        serving_context, caller, await body.chosen(), request.state.trace, body.mode, explain=body.explain
    )


def _conversation(item: BatchItemIn, where: str) -> Conversation | AppError:
    try:
        return item.conversation(where)
    except AppError as error:
        return error


async def _events(
    first: str | Answered, rest: AsyncGenerator[str | Answered, None], request: Request
) -> AsyncIterator[bytes]:
    """Cancelled where the client hangs up, which ends the model's work too."""
    async with aclosing(rest):
        try:
            yield _event(first)
            async for piece in rest:
                yield _event(piece)
        except AppError as error:
            yield _sse("problem", document(error, request_id_of(request)))


def _event(piece: str | Answered) -> bytes:
    if isinstance(piece, str):
        return _sse("reasoning", ReasoningOut(text=piece))
    return _sse("answer", AnswerOut.of(piece))


def _sse(event: str, content: BaseModel) -> bytes:
    return event_stream.written(content.model_dump_json(), event)


def _serving_context(request: Request) -> ServingContext:
    serving_context: ServingContext = request.app.state.serving_context
    return serving_context
