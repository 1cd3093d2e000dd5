"""For whoever starts, watches and balances the processes."""

import asyncio
from typing import Literal

import structlog
from fastapi import Depends, Request
from fastapi.responses import PlainTextResponse
from pydantic import Field
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.auth.access import no_key
from app.auth.dependencies import PlatformAdmin
from app.auth.route import keyed_router
from app.errors import Forbidden, Unavailable
from app.http.payload import ResponseBody
from app.http.problems import public_responses, responses
from app.infra import metrics
from app.infra.db.engine import Database
from app.infra.db.isolation import check_isolation
from app.settings import Settings

router = keyed_router(tags=["health"])
log = structlog.get_logger()
_TIMEOUT_S = 3
_REDIS_TIMEOUT_S = 0.5


class Alive(ResponseBody):
    status: Literal["alive"] = Field("alive", description="The process answers.", examples=["alive"])


class Ready(ResponseBody):
    status: Literal["ready"] = Field("ready", description="Requests can be served.", examples=["ready"])
    redis: Literal["reachable", "unreachable", "not configured"] = Field(
        description="Without Redis everything is accepted; background work begins when it is back.",
        examples=["reachable"],
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
    responses=public_responses(Unavailable),
    dependencies=[Depends(no_key)],
)
async def ready(request: Request) -> Ready:
    """The database can be reached, so requests can be served. Redis alone being down does not change that."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await _ask(request.app.state.database)
    except Exception as error:  # noqa: BLE001 (whatever stands between us and it, the answer is the same)
        log.warning("not_ready", error=repr(error))
        raise Unavailable("the database cannot be reached, or must not be used; the log says which") from None
    return Ready(redis=await _redis(request.app.state.settings))


@router.get(
    "/metrics",
    operation_id="get_metrics",
    response_class=PlainTextResponse,
    responses=responses(Forbidden) | {200: {"description": "In Prometheus' text format."}},
)
async def figures(_caller: PlatformAdmin) -> PlainTextResponse:
    """The figures of this process for Prometheus, which sends the key of an admin of the platform."""
    return PlainTextResponse(metrics.exposed(), media_type=metrics.CONTENT_TYPE)


async def _ask(database: Database) -> None:
    async with database.engine.execution_options(read_only=True).connect() as connection:
        await connection.exec_driver_sql("SELECT 1")
    await check_isolation(database)  # it may have been away when we started


async def _redis(settings: Settings) -> Literal["reachable", "unreachable", "not configured"]:
    if settings.redis_url is None:
        return "not configured"
    client = Redis.from_url(
        settings.redis_url, socket_timeout=_REDIS_TIMEOUT_S, socket_connect_timeout=_REDIS_TIMEOUT_S
    )
    try:
        await client.ping()
    except (RedisError, OSError):
        return "unreachable"
    finally:
        await client.aclose()
    return "reachable"
