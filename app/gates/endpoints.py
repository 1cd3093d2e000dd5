import asyncio
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Query, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.dependencies import Caller, tenant_scope
from app.auth.principal import Scope
from app.auth.route import keyed_router
from app.errors import Forbidden, IdempotencyKeyReused, NotFound, RequestInFlight, ShareExceeded
from app.gates import repository, service
from app.gates.payloads import GATE_ID, MODEL_ID, GateIn, GateOut
from app.gates.repository import FINAL
from app.gates.service import GateNotMeasured
from app.http.idempotency.reservation import Once, once
from app.http.paging import Page, Paging, Position
from app.http.problems import responses
from app.infra.db.scope import TenantScope
from app.infra.db.session import Session
from app.infra.storage import Storage
from app.infra.tables.gates import GateState

router = keyed_router("/v1/gates", tags=["gates"])
GateId = Annotated[UUID, Path(description="Id of a gate.", examples=[GATE_ID])]
Reader = Annotated[TenantScope, Depends(tenant_scope(Scope.runs_read))]
# A report quotes conversations.
ReportReader = Annotated[TenantScope, Depends(tenant_scope(Scope.conversations_read, Scope.runs_read))]
Runner = Annotated[TenantScope, Depends(tenant_scope(Scope.runs_write))]
OnceForRunner = Annotated[Once, Depends(once(Scope.runs_write))]
_KNOWN: dict[int | str, dict[str, Any]] = {
    200: {"model": GateOut, "description": "The verdict on this pair is known and final."}
}
_REPORT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Every stage's measures with their intervals, the verdict's checks, and examples.",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "title": "Report",
                    "required": ["report_version", "stages", "gate"],
                },
                "example": {
                    "report_version": 3,
                    "tenant": "support",
                    "stages": [],
                    "gate": {"verdict": "passed"},
                },
            }
        },
    }
}
_PAGE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The report as a page that needs nothing else.", "content": {"text/html": {}}}
}
# The page holds its own style and drawings. What a tenant wrote is escaped in it, and could not run if it were not.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"


@router.post(
    "",
    status_code=202,
    operation_id="create_gate",
    responses=responses(Forbidden, NotFound, ShareExceeded, RequestInFlight, IdempotencyKeyReused) | _KNOWN,
)
async def create(
    body: GateIn,
    caller: Caller,
    scope: Runner,
    session: Session,
    request: Request,
    response: Response,
    request_once: OnceForRunner,
) -> GateOut:
    """Measure a model under a version of its schema. A gate that is under way is returned, as is a final verdict."""
    row = await service.request_by_number(
        session,
        scope,
        caller.key_id,
        body.model_version_id,
        body.schema_version,
        body.mode,
        request.app.state.settings,
    )
    response.status_code = 200 if row.state is GateState.done and row.verdict in FINAL else 202
    return await request_once.keep(session, response.status_code, await _shown(session, scope, row.id))


@router.get("", operation_id="list_gates", responses=responses(NotFound))
async def listed(
    scope: Reader,
    session: Session,
    paging: Paging,
    model_version_id: Annotated[
        UUID | None, Query(description="Only those of this model.", examples=[MODEL_ID])
    ] = None,
) -> Page[GateOut]:
    """The tenant's gates."""
    rows = await repository.listed(session, scope, paging, model_version_id)
    return paging.page(rows, GateOut.of, lambda found: Position(found.row.created_at, found.row.id))


@router.get("/{gate_id}", operation_id="get_gate", responses=responses(NotFound))
async def get(gate_id: GateId, scope: Reader, session: Session) -> GateOut:
    """One gate: its verdict and the reasons, or how far it is."""
    return await _shown(session, scope, gate_id)


@router.get(
    "/{gate_id}/report",
    operation_id="get_gate_report",
    response_class=Response,
    responses=responses(NotFound, GateNotMeasured) | _REPORT,
)
async def report(gate_id: GateId, scope: ReportReader, session: Session, request: Request) -> Response:
    """The whole report as JSON."""
    content = await _stored(request, await service.report_key(session, scope, gate_id))
    return Response(content, media_type="application/json")


@router.get(
    "/{gate_id}/report.html",
    operation_id="get_gate_page",
    response_class=HTMLResponse,
    responses=responses(NotFound, GateNotMeasured) | _PAGE,
)
async def page(gate_id: GateId, scope: ReportReader, session: Session, request: Request) -> HTMLResponse:
    """The same report for people."""
    key = service.page_key(await service.report_key(session, scope, gate_id))
    return HTMLResponse(await _stored(request, key), headers={"Content-Security-Policy": _POLICY})


async def _shown(session: AsyncSession, scope: TenantScope, gate_id: UUID) -> GateOut:
    found = await service.found(session, scope, gate_id)
    return GateOut.of(found, await service.job_of(session, scope, gate_id))


async def _stored(request: Request, key: str) -> bytes:
    storage: Storage = request.app.state.storage
    return await asyncio.to_thread(_content, storage, key)


def _content(storage: Storage, key: str) -> bytes:
    with storage.open_read(key) as file:
        return file.read()
