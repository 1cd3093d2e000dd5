from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from app.auth.dependencies import Caller
from app.auth.route import keyed_router
from app.datasets.service import DatasetBusy
from app.errors import Forbidden, IdempotencyKeyReused, NoSpace, NotFound, RequestInFlight, ShareExceeded
from app.http.paging import Page, Paging
from app.http.problems import responses
from app.infra.db.session import Session
from app.runs import logs, repository, service, stream
from app.runs.budgets import TeacherBudgetSpent
from app.runs.dependencies import (
    LastEventId,
    Listener,
    OfSchema,
    OnceForWriter,
    Reader,
    RunId,
    StageName,
    Writer,
)
from app.runs.payloads import RunIn, RunOut
from app.runs.requests import BaseNotServed, DatasetNotEnough
from app.runs.service import RunNotFailed

router = keyed_router("/v1/runs", tags=["runs"])
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events. `id` is the event's, `event` its kind (queued, started, metric, progress, "
        "succeeded, retried, failed, cancelled, …), `data` a JSON object with `at`, `stage`, `event` and what belongs "
        "to the kind. The last one is `end`, with the run's `state`, `model_version_id` and `error`.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'id: 1043\nevent: metric\ndata: {"at": "2026-01-02T10:30:00+00:00", "stage": "sft", '
                '"event": "metric", "step": 24, "total_steps": 60, "eta_s": 41.5, "metrics": {"loss": 0.93}}\n\n',
            }
        },
    }
}
_LOG: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "What the stage printed, attempt by attempt; empty where it has printed nothing yet.",
        "content": {"text/plain": {"schema": {"type": "string"}, "example": "=== start 1 ===\n…\n"}},
    }
}


@router.post(
    "",
    status_code=202,
    operation_id="create_run",
    responses=responses(
        Forbidden,
        NotFound,
        DatasetBusy,
        RequestInFlight,
        IdempotencyKeyReused,
        BaseNotServed,
        DatasetNotEnough,
        ShareExceeded,
        TeacherBudgetSpent,
        NoSpace,
    ),
)
async def create(
    body: RunIn,
    request: Request,
    caller: Caller,
    scope: Writer,
    session: Session,
    request_once: OnceForWriter,
) -> RunOut:
    """Train a classifier: traces → SFT → distillation → RL, on the dataset as it is now.

    Everything is checked before the answer. Send an `Idempotency-Key` and it is safe to send the request again.
    """
    state = request.app.state
    order = body.order(state.settings)
    run = await service.create(session, state.storage, scope, caller.key_id, order, state.settings)
    made = RunOut.of(await service.view(session, scope, run.id))
    return await request_once.keep(session, 202, made)


@router.get("", operation_id="list_runs", responses=responses(NotFound))
async def listed(scope: Reader, session: Session, paging: Paging, schema_id: OfSchema = None) -> Page[RunOut]:
    """The tenant's runs."""
    rows = await repository.listed(session, scope, paging, schema_id)
    views = await service.views(session, scope, rows)
    return paging.page(views, RunOut.of, lambda view: repository.position(view.run))


@router.get("/{run_id}", operation_id="get_run", responses=responses(NotFound))
async def get(run_id: RunId, scope: Reader, session: Session) -> RunOut:
    """One run: its stages, how far they are, and what they measured."""
    return RunOut.of(await service.view(session, scope, run_id))


@router.post(
    "/{run_id}/cancel", status_code=202, operation_id="cancel_run", responses=responses(Forbidden, NotFound)
)
async def cancel(run_id: RunId, caller: Caller, scope: Writer, session: Session) -> RunOut:
    """End it. A stage that runs is stopped within seconds; a run that has ended stays as it is."""
    await service.request_cancel(session, scope, caller.key_id, run_id)
    return RunOut.of(await service.view(session, scope, run_id))


@router.post(
    "/{run_id}/retry",
    status_code=202,
    operation_id="retry_run",
    responses=responses(Forbidden, NotFound, RunNotFailed, ShareExceeded),
)
async def retry(run_id: RunId, caller: Caller, scope: Writer, session: Session, request: Request) -> RunOut:
    """Go on from the stage that failed, and there from its checkpoint. What the stages before it made is kept."""
    await service.retry(session, scope, caller.key_id, run_id, request.app.state.settings)
    return RunOut.of(await service.view(session, scope, run_id))


@router.get(
    "/{run_id}/events",
    operation_id="stream_run_events",
    response_class=StreamingResponse,
    responses=responses(NotFound, ShareExceeded) | _EVENTS,
)
async def events(
    run_id: RunId, scope: Listener, session: Session, request: Request, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Everything that happens in the run, as it happens. After a break go on with `Last-Event-ID`."""
    request.app.state.run_feeds.check(scope)
    await service.get(session, scope, run_id)  # this session ends before the stream begins
    told = stream.events(request.app.state.run_feeds, scope, run_id, int(last_event_id or 0))
    first = await anext(told)  # where the tenant has too many open, that is still a status
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_from(first, told), media_type="text/event-stream", headers=headers)


async def _from(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


@router.get(
    "/{run_id}/stages/{kind}/log",
    operation_id="get_run_stage_log",
    response_class=StreamingResponse,
    responses=responses(NotFound) | _LOG,
)
async def log(
    run_id: RunId, kind: StageName, scope: Reader, session: Session, request: Request
) -> StreamingResponse:
    """What a stage printed. While it runs, up to about ten seconds ago."""
    job = await service.job_of_stage(session, scope, run_id, kind)
    return StreamingResponse(logs.read(request.app.state.storage, job), media_type="text/plain")
