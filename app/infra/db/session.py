"""One transaction for each request or task, committed as it ends. Nothing else in the application commits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.infra import failpoints
from app.infra.db.engine import READ_ONLY, Database
from app.infra.db.guard import OutsideTenant, Sight, narrow, sight_of
from app.infra.db.scope import TenantScope


@asynccontextmanager
async def transaction(
    database: Database, scope: TenantScope | None = None, *, read_only: bool = False
) -> AsyncIterator[AsyncSession]:
    """Commits at the end, rolls back on an exception. Without a scope it sees every tenant: for workers and admins.

    read_only: waits for no writer and makes none wait (on SQLite every other transaction takes the write lock).
    """
    async with database.sessions() as session:
        async with session.begin():
            await (enter_platform(session) if scope is None else enter_tenant(session, scope))
            if read_only:
                await session.connection(execution_options=READ_ONLY)
            yield session
            if not read_only:
                failpoints.at_border("before_commit")
        if not read_only:
            failpoints.at_border("after_commit")


async def session_of(request: Request) -> AsyncIterator[AsyncSession]:
    """The request's transaction. It sees nothing until `show_tenant` or `show_platform` says what it may see.

    It begins with the first query, when every dependency of the endpoint has had its say. That of a GET reads only:
    on SQLite it then waits for no writer and makes none wait.
    """
    database: Database = request.app.state.database
    reads = request.method in ("GET", "HEAD")
    engine = database.engine.execution_options(**READ_ONLY) if reads else database.engine
    async with database.sessions(bind=engine) as session:
        async with session.begin():
            session.info["sight"] = _sight_of(request)
            yield session
            # What every operation leaves behind, in its own transaction; not where the endpoint raised.
            if not reads:
                await request.app.state.before_commit(request, session)
                failpoints.at_border("before_commit", _operation(request))
        if not reads:
            failpoints.at_border("after_commit", _operation(request))
    if reads:
        await request.app.state.after_reading(request)


def _operation(request: Request) -> str:
    return f"http.{request.method}.{getattr(request.scope.get('route'), 'path', '')}"


def show_tenant(request: Request, scope: TenantScope) -> None:
    """The request's session sees this tenant. Raises: OutsideTenant where it was told otherwise before."""
    sight = _sight_of(request)
    if sight.connection is not None or sight.platform or sight.tenant_id not in (None, scope.tenant_id):
        raise OutsideTenant("a request belongs to one tenant, which is known before its first query")
    sight.tenant_id = scope.tenant_id


def show_platform(request: Request) -> None:
    """The request's session sees every tenant. Raises: OutsideTenant where it was told otherwise before."""
    sight = _sight_of(request)
    if sight.connection is not None or sight.tenant_id is not None:
        raise OutsideTenant("a tenant's request cannot become the platform's")
    sight.platform = True


def _sight_of(request: Request) -> Sight:
    sight: Sight = request.scope.setdefault("state", {}).setdefault("sight", Sight())
    return sight


# scope="function": the commit comes before the response is sent, so that a commit that fails is an error 500 and not
# a success that never happened.
Session = Annotated[AsyncSession, Depends(session_of, scope="function")]


async def enter_platform(session: AsyncSession) -> None:
    """To look up a key, or for an admin. A tenant's session never comes back here. Raises: OutsideTenant."""
    sight = sight_of(session.sync_session)
    if sight.tenant_id is not None:
        raise OutsideTenant("a tenant's session cannot become the platform's")
    sight.platform = True
    await session.run_sync(narrow, sight)


async def enter_tenant(session: AsyncSession, scope: TenantScope) -> None:
    """From here on the session sees one tenant's rows. Raises: OutsideTenant where it has been another's."""
    sight = sight_of(session.sync_session)
    if sight.tenant_id not in (None, scope.tenant_id):
        raise OutsideTenant("a session belongs to one tenant")
    sight.tenant_id, sight.platform = scope.tenant_id, False
    await session.run_sync(narrow, sight)
