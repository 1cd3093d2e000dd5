from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Path, Request
from fastapi.responses import StreamingResponse

from app.auth.dependencies import Caller, KeyOwner, PlatformAdmin, tenant_scope
from app.auth.principal import Scope
from app.auth.route import keyed_router
from app.erasure import export, service
from app.erasure.payloads import DeletedRunOut, DeletedTenantOut
from app.erasure.service import RunInUse, RunNotEnded
from app.errors import Forbidden, InvalidRequest, NotFound, Problem
from app.http.problems import responses
from app.infra.db.scope import TenantScope
from app.infra.db.session import Session

router = keyed_router("/v1", tags=["erasure"])
Runner = Annotated[TenantScope, Depends(tenant_scope(Scope.runs_write))]
RunId = Annotated[UUID, Path(description="Id of a run.", examples=["9b1f6a52-0c3d-4f6e-8a7b-2d5c4e3f1a60"])]
TenantId = Annotated[
    UUID, Path(description="Id of a tenant.", examples=["7d9f1c2e-5b7a-4c53-9d57-0a4f7c1f2b11"])
]
_ARCHIVE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A tar archive: `tables/NAME-0001.jsonl`, a JSON object a row, and `files/KEY`. Its last "
        "member, `complete.json`, says how many of each; an archive without it was cut off.",
        "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.delete(
    "/runs/{run_id}",
    operation_id="delete_run",
    responses=responses(Forbidden, NotFound, RunNotEnded, RunInUse),
)
async def delete_run(run_id: RunId, caller: Caller, scope: Runner, session: Session) -> DeletedRunOut:
    """Remove a run that has ended, with its models, their gates and deployments, and all files of these. None of its
    models may be live. Files go within a minute; an adapter that a model server has, with its restart at the latest."""
    return DeletedRunOut.of(await service.delete_run(session, scope, caller.key_id, run_id))


@router.delete(
    "/tenants/{tenant_id}",
    status_code=202,
    operation_id="delete_tenant",
    responses=responses(Forbidden, NotFound),
)
async def delete_tenant(tenant_id: TenantId, caller: PlatformAdmin, session: Session) -> DeletedTenantOut:
    """Remove a tenant with its keys and all that it owns; an admin of the platform may. From this answer on it is gone
    for everybody; rows and files are erased within minutes. The audit trail, which holds ids only, stays."""
    at = await service.delete_tenant(session, TenantScope(tenant_id), caller.key_id)
    return DeletedTenantOut(id=tenant_id, deleted_at=at)


@router.get(
    "/export",
    operation_id="export_tenant",
    response_class=StreamingResponse,
    responses=responses(Forbidden, NotFound) | _ARCHIVE,
)
async def exported(owner: KeyOwner, _session: Session, request: Request) -> StreamingResponse:
    """All that the tenant owns as one archive: rows of every table, and the files that they name. For an admin of it,
    or of the platform with `X-Tenant`. No key is in it."""
    if owner.tenant_id is None:
        problem = Problem("header.x-tenant", "a platform admin names the tenant that is meant")
        raise InvalidRequest(f"{problem.where}: {problem.message}", problems=[problem])
    # Nothing is asked of the session; with its end it is noted that an admin of the platform has read.
    state, scope = request.app.state, TenantScope(owner.tenant_id)
    pieces = export.archive(state.database, state.storage, scope)
    named = {"Content-Disposition": 'attachment; filename="tenant.tar"', "Cache-Control": "no-store"}
    return StreamingResponse(pieces, media_type="application/x-tar", headers=named)
