"""For whoever starts, watches and balances the processes."""

import asyncio
from datetime import datetime
from typing import Literal

from fastapi import Depends, Request
from fastapi.responses import PlainTextResponse
from pydantic import Field

from app.auth.access import no_key
from app.auth.dependencies import PlatformAdmin
from app.auth.route import keyed_router
from app.errors import Forbidden, Unavailable
from app.http.payload import RequestBody, ResponseBody
from app.http.problems import public_responses, responses
from app.infra import metrics, outage
from app.infra.db.isolation import check_isolation
from app.infra.db.session import Session
from app.infra.db.version import DatabaseMisfit, DatabaseVersion
from app.infra.outage import DatabaseAway
from app.jobs import maintenance
from app.operations import gauges
from app.operations.readiness import Parts

router = keyed_router(tags=["health"])
_TIMEOUT_S = 3
Reach = Literal["reachable", "unreachable", "not configured"]


class MaintenanceIn(RequestBody):
    reason: str = Field(
        description="What is done, for whoever asks.",
        examples=["upgrade to 0.2"],
        min_length=1,
        max_length=500,
    )


class MaintenanceOut(ResponseBody):
    began_at: datetime | None = Field(
        description="Since when no job begins; null: they do.", examples=["2026-01-02T10:30:00Z"]
    )
    reason: str | None = Field(description="What is done meanwhile.", examples=["upgrade to 0.2"])
    running: int = Field(description="Jobs that have not ended yet; 0: nothing is under way.", examples=[0])


class Alive(ResponseBody):
    status: Literal["alive"] = Field("alive", description="The process answers.", examples=["alive"])


class Ready(ResponseBody):
    status: Literal["ready", "degraded"] = Field(
        description="Requests are served; degraded: some things wait, and `problems` says which.",
        examples=["ready"],
    )
    problems: list[str] = Field(description="What does not work, a sentence each.", examples=[[]])
    database_version: str = Field(description="That of the database.", examples=["2026_11_29_processes"])
    redis: Reach = Field(
        description="Without Redis everything is accepted; background work begins when it is back.",
        examples=["reachable"],
    )
    storage: Reach = Field(description="Where files are kept.", examples=["reachable"])
    model_servers: int = Field(description="How many are named.", examples=[2])
    model_servers_well: int = Field(description="How many of them answer.", examples=[2])
    dispatchers: int | None = Field(description="Seen in the last half minute.", examples=[1])
    workers: int | None = Field(description="Seen in the last half minute.", examples=[2])
    free_mib: int = Field(description="On the disk that this process writes to.", examples=[20480])
    deployments_not_served: int | None = Field(
        description="Live, but their models do not fit what is served here.", examples=[0]
    )

    @classmethod
    def of(cls, version: DatabaseVersion, parts: Parts, problems: list[str]) -> "Ready":
        reachable: dict[bool, Reach] = {True: "reachable", False: "unreachable"}
        return cls(
            status="degraded" if problems else "ready",
            problems=problems,
            database_version=", ".join(version.found),
            redis=reachable[bool(parts.redis)] if parts.redis_named else "not configured",
            storage=reachable[parts.storage],
            model_servers=parts.model_servers,
            model_servers_well=parts.model_servers_well,
            dispatchers=parts.dispatchers,
            workers=parts.workers,
            free_mib=parts.free_mib,
            deployments_not_served=parts.not_served,
        )


@router.get(
    "/livez", operation_id="get_liveness", responses=public_responses(), dependencies=[Depends(no_key)]
)
async def alive() -> Alive:
    """The process runs. Says nothing about what it depends on."""
    return Alive()


@router.get(
    "/readyz",
    operation_id="get_readiness",
    responses=public_responses(Unavailable, DatabaseAway, DatabaseMisfit),
    dependencies=[Depends(no_key)],
)
async def ready(request: Request) -> Ready:
    """The database can be reached and has the version that this process needs, so requests can be served. Whatever
    else is down is told of, and does not change that."""
    state = request.app.state
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            version = await state.database_watch.look(state.database)
            await check_isolation(state.database)  # it may have been away when we started
    except Exception as error:
        if outage.passes(error):
            raise
        raise Unavailable("the database must not be used by this process; its log says why") from error
    parts = await state.readiness.parts(state.database)
    return Ready.of(version, parts, parts.problems(state.settings))


@router.get(
    "/metrics",
    operation_id="get_metrics",
    response_class=PlainTextResponse,
    responses=responses(Forbidden) | {200: {"description": "In Prometheus' text format."}},
)
async def figures(_caller: PlatformAdmin, request: Request) -> PlainTextResponse:
    """The figures of this process and of the installation's queues for Prometheus, which sends the key of an admin of
    the platform."""
    text = metrics.exposed() + await gauges.exposed(request.app.state.database)
    return PlainTextResponse(text, media_type=metrics.CONTENT_TYPE)


@router.get("/v1/maintenance", operation_id="get_maintenance", responses=responses(Forbidden))
async def maintenance_state(_caller: PlatformAdmin, session: Session) -> MaintenanceOut:
    """Whether jobs may begin, and how many run; for an admin of the platform."""
    return MaintenanceOut(**(await maintenance.state(session))._asdict())


@router.put("/v1/maintenance", operation_id="begin_maintenance", responses=responses(Forbidden))
async def begin_maintenance(body: MaintenanceIn, _caller: PlatformAdmin, session: Session) -> MaintenanceOut:
    """No job begins any more; those that run go on to their end. What is accepted is kept, and answers are given."""
    await maintenance.begin(session, body.reason)
    return MaintenanceOut(**(await maintenance.state(session))._asdict())


@router.delete("/v1/maintenance", operation_id="end_maintenance", responses=responses(Forbidden))
async def end_maintenance(_caller: PlatformAdmin, session: Session) -> MaintenanceOut:
    """Jobs begin again, those that have waited longest first."""
    await maintenance.end(session)
    return MaintenanceOut(**(await maintenance.state(session))._asdict())
