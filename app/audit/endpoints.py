from typing import Annotated

from fastapi import Query

from app.audit import repository
from app.audit.payloads import AuditEventOut
from app.audit.repository import Filter
from app.auth.dependencies import KeyOwner
from app.auth.route import keyed_router
from app.errors import Forbidden, NotFound
from app.http.paging import Page, Paging, Position
from app.http.problems import responses
from app.infra.db.session import Session

router = keyed_router("/v1", tags=["audit"])
_PATTERN = r"^[^\x00]*$"  # a query may hold a NUL, which PostgreSQL's text cannot


@router.get("/audit", operation_id="list_audit_events", responses=responses(Forbidden, NotFound))
async def listed(
    owner: KeyOwner,
    session: Session,
    paging: Paging,
    action: Annotated[
        str | None,
        Query(
            description="Only this action.", examples=["schema.published"], max_length=100, pattern=_PATTERN
        ),
    ] = None,
    subject: Annotated[
        str | None,
        Query(
            description="Only what was done to this.",
            examples=["schema:3c1f8f0a-54c6-4a0e-8b38-0c8a7e2d9f01"],
            max_length=200,
            pattern=_PATTERN,
        ),
    ] = None,
) -> Page[AuditEventOut]:
    """Who did what in the tenant, or, for an admin of the platform without `X-Tenant`, on the platform itself."""
    rows = await repository.listed(session, owner.tenant_id, paging, Filter(action, subject))
    return paging.page(rows, AuditEventOut.of, lambda row: Position(row.event.at, row.event.id))
