import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Query, Request

from app.auth.dependencies import Caller, tenant_scope
from app.auth.principal import Scope
from app.auth.route import keyed_router
from app.datasets.service import DatasetBusy
from app.errors import (
    Forbidden,
    IdempotencyKeyReused,
    InvalidRequest,
    NameTaken,
    NoSpace,
    NotFound,
    Problem,
    RequestInFlight,
    ShareExceeded,
)
from app.http.idempotency.reservation import Once, once
from app.http.paging import Page, Paging
from app.http.problems import responses
from app.infra.db.scope import TenantScope
from app.infra.db.session import Session, transaction
from app.runs.budgets import TeacherBudgetSpent
from app.runs.requests import BaseNotServed, DatasetNotEnough
from app.triggers import repository, service
from app.triggers.payloads import (
    TRIGGER_ID,
    SimulationIn,
    SimulationOut,
    TriggerIn,
    TriggerOut,
    TriggerPatch,
    columns,
    limits_of,
)
from app.triggers.service import TooManyTriggers, TriggerHeldBack
from app.triggers.simulation import simulate as replay

router = keyed_router("/v1/triggers", tags=["triggers"])
TriggerId = Annotated[UUID, Path(description="Id of a trigger.", examples=[TRIGGER_ID])]
OfSchema = Annotated[
    UUID | None,
    Query(description="Only those of this schema.", examples=["3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"]),
]
Reader = Annotated[TenantScope, Depends(tenant_scope(Scope.runs_read))]
Admin = Annotated[TenantScope, Depends(tenant_scope(Scope.admin))]
OnceForAdmin = Annotated[Once, Depends(once(Scope.admin))]


@router.post(
    "",
    status_code=201,
    operation_id="create_trigger",
    responses=responses(
        Forbidden, NotFound, NameTaken, TooManyTriggers, RequestInFlight, IdempotencyKeyReused
    ),
)
async def create(
    body: TriggerIn, caller: Caller, scope: Admin, session: Session, request_once: OnceForAdmin
) -> TriggerOut:
    """When runs shall begin by themselves, and how often at most. It is checked every five minutes.

    What it starts is checked, and counts against the tenant's share, as a run that somebody asks for.
    """
    row = await service.create(session, scope, caller.key_id, columns(body, list(TriggerIn.model_fields)))
    return await request_once.keep(session, 201, TriggerOut.of(row))


@router.get("", operation_id="list_triggers", responses=responses(NotFound))
async def listed(
    scope: Reader, session: Session, paging: Paging, schema_id: OfSchema = None
) -> Page[TriggerOut]:
    """The tenant's triggers."""
    return paging.page(await repository.listed(session, scope, paging, schema_id), TriggerOut.of)


@router.post("/simulate", operation_id="simulate_trigger", responses=responses(Forbidden, NotFound))
async def simulate(body: SimulationIn, scope: Admin, request: Request) -> SimulationOut:
    """What a trigger would have started, and why not, over what is kept of the schema's own past: answers as they were
    counted for 90 days, labels, edits and runs. It reads only."""
    async with transaction(request.app.state.database, scope, read_only=True) as session:
        await service.check_pair(session, scope, body.schema_id, body.dataset_id)
        now = await repository.clock(session)
        last = min(body.last or now, now)
        past = await service.history(session, scope, body.schema_id, body.dataset_id, last, body.trigger_id)
    limits = limits_of(body.cool_down_h, body.budget)
    return SimulationOut.of(await asyncio.to_thread(replay, body.rule, limits, past, body.first, last))


@router.get("/{trigger_id}", operation_id="get_trigger", responses=responses(NotFound))
async def get(trigger_id: TriggerId, scope: Reader, session: Session) -> TriggerOut:
    """One trigger: when it was checked last, what was found, and why it did not start."""
    return TriggerOut.of(await service.get(session, scope, trigger_id))


@router.patch(
    "/{trigger_id}", operation_id="change_trigger", responses=responses(Forbidden, NotFound, NameTaken)
)
async def change(
    trigger_id: TriggerId, body: TriggerPatch, caller: Caller, scope: Admin, session: Session
) -> TriggerOut:
    """Change it, pause it or resume it; what is left out stays as it is."""
    await service.get(session, scope, trigger_id)  # whose it is comes before what is wrong with the request
    if not body.model_fields_set:
        problem = Problem("body", "name at least one setting to change")
        raise InvalidRequest(problem.message, problems=[problem])
    values = columns(body, sorted(body.model_fields_set))
    return TriggerOut.of(await service.change(session, scope, caller.key_id, trigger_id, values))


@router.delete(
    "/{trigger_id}", status_code=204, operation_id="delete_trigger", responses=responses(Forbidden, NotFound)
)
async def delete(trigger_id: TriggerId, caller: Caller, scope: Admin, session: Session) -> None:
    """Remove it. Runs that it started stay."""
    await service.remove(session, scope, caller.key_id, trigger_id)


@router.post(
    "/{trigger_id}/start",
    status_code=202,
    operation_id="start_trigger",
    responses=responses(
        Forbidden,
        NotFound,
        TriggerHeldBack,
        RequestInFlight,
        IdempotencyKeyReused,
        DatasetBusy,
        BaseNotServed,
        DatasetNotEnough,
        ShareExceeded,
        TeacherBudgetSpent,
        NoSpace,
    ),
)
async def start(
    trigger_id: TriggerId,
    caller: Caller,
    scope: Admin,
    session: Session,
    request: Request,
    request_once: OnceForAdmin,
) -> TriggerOut:
    """Start it by hand, whatever it waits for, within its cool-down and its budget. Its `run_id` is the run."""
    state = request.app.state
    row = await service.start_by_hand(
        session, state.storage, scope, caller.key_id, trigger_id, state.settings
    )
    return await request_once.keep(session, 202, TriggerOut.of(row))
