from datetime import date, timedelta
from typing import Annotated

from fastapi import Depends, Query, Request

from app.auth.dependencies import tenant_scope
from app.auth.principal import Scope
from app.auth.route import keyed_router
from app.errors import InvalidRequest, NotFound, Problem
from app.http.problems import responses
from app.infra.db.base import utc_now
from app.infra.db.scope import TenantScope
from app.infra.db.session import Session
from app.usage import repository
from app.usage.payloads import UsageOut
from app.usage.service import Meter

router = keyed_router("/v1", tags=["usage"])
MAX_DAYS = 366
DEFAULT_DAYS = 30


@router.get("/usage", operation_id="get_usage", responses=responses(NotFound))
async def usage(
    request: Request,
    scope: Annotated[TenantScope, Depends(tenant_scope(Scope.tenant_read))],
    session: Session,
    first: Annotated[
        date | None,
        Query(alias="from", description="The first day, in UTC.", examples=["2026-01-01"]),
    ] = None,
    last: Annotated[
        date | None, Query(alias="to", description="The last day, in UTC.", examples=["2026-01-31"])
    ] = None,
) -> UsageOut:
    """What the tenant used, day by day; without dates, the last 30 days. Other processes may be seconds behind."""
    last = last or utc_now().date()
    first = first or last - min(timedelta(days=DEFAULT_DAYS - 1), last - date.min)
    if not timedelta(0) <= last - first < timedelta(days=MAX_DAYS):
        problem = Problem("query.from", f"must be at most {MAX_DAYS - 1} days before `to`, and not after it")
        raise InvalidRequest(f"{problem.where}: {problem.message}", problems=[problem])
    meter: Meter = request.app.state.meter
    await meter.flush()
    return UsageOut.of(await repository.days(session, scope, first, last))
