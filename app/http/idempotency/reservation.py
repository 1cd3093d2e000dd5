"""`Idempotency-Key`: a request that is sent again gives the first answer again and does nothing twice.

The key is reserved in a transaction of its own before the endpoint begins, so that a second request can see that the
first is under way. The answer is stored in the endpoint's own transaction: it exists exactly if the work does. A
request that fails gives its key back. One whose process died leaves a reservation that is taken over after a while;
should it come to life again, its transaction fails, because the reservation is no longer its own.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar
from uuid import UUID

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.dependencies import tenant_scope
from app.auth.principal import Scope
from app.errors import IdempotencyKeyReused, RequestInFlight
from app.http.idempotency import repository
from app.infra.db.base import utc_now
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.records import IdempotencyKey

KEPT_FOR = timedelta(hours=24)
GIVEN_UP_AFTER = timedelta(minutes=5)  # longer than any request that takes a key may last
Body = TypeVar("Body", bound=BaseModel)
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Any text of your own, new for each piece of work. With it the request may be sent again: it is "
        "done once, and the answer is repeated for 24 hours.",
        pattern=r"^[\x21-\x7e]{1,200}$",
        examples=["run-2026-01-02-a"],
    ),
]


class _Request(NamedTuple):
    scope: TenantScope
    key: str
    route: str
    body_sha256: str


class Replay(Exception):
    """Not an error: the answer, known before the endpoint was asked."""

    def __init__(self, status: int, body: dict[str, Any]):
        super().__init__(status)
        self.status, self.body = status, body


class Once:
    """reservation: None where the request came without a key."""

    def __init__(self, scope: TenantScope, reservation: UUID | None):
        self.scope, self.reservation = scope, reservation
        self.kept = False

    async def keep(self, session: AsyncSession, status: int, answer: Body) -> Body:
        """The last thing an endpoint does: `return await request_once.keep(session, 201, answer)`.

        session: the one that did the work. Raises: RequestInFlight.
        """
        self.kept = True
        if self.reservation is not None:
            body = answer.model_dump(mode="json")
            if not await repository.complete(session, self.scope, self.reservation, status, body):
                raise RequestInFlight(
                    "the request took so long that another with the same key was let through"
                )
        return answer


@cache  # as tenant_scope, which it hands its scopes to
def once(*needed: Scope) -> Callable[..., AsyncIterator[Once]]:
    """For what makes something, or says what it removed:
    `request_once: Annotated[Once, Depends(once(Scope.runs_write))]`.

    Raises: IdempotencyKeyReused, RequestInFlight, and what tenant_scope raises.
    """

    # Its end comes after the session's (which has the scope "function"), and before an error is answered: the key is
    # given back when the work has been rolled back, and the client can send it again as soon as it hears of that.
    async def reserved(
        request: Request, scope: Annotated[TenantScope, Depends(tenant_scope(*needed))], key: Key = None
    ) -> AsyncIterator[Once]:
        if key is None:
            yield Once(scope, None)
            return
        database: Database = request.app.state.database
        asked = _Request(scope, key, f"{request.method} {request.url.path}", await _fingerprint(request))
        handle = Once(scope, await _reserve(database, asked))
        done = False
        try:
            yield handle
            done = True
        finally:
            if not done or not handle.kept:
                await _release(database, handle)
        if not handle.kept:
            raise RuntimeError(f"{asked.route} took an Idempotency-Key and did not keep its answer")

    return reserved


async def _fingerprint(request: Request) -> str:
    query = request.url.query.encode()
    return hashlib.sha256(query + b"\n" + await request.body()).hexdigest()


async def _reserve(database: Database, asked: _Request) -> UUID:
    """Raises: IdempotencyKeyReused, Replay, RequestInFlight."""
    try:
        async with transaction(database, asked.scope) as session:
            now = utc_now()
            await repository.forget(session, asked.scope, now - KEPT_FOR, now - GIVEN_UP_AFTER)
            row = IdempotencyKey(
                tenant_id=asked.scope.tenant_id,
                key=asked.key,
                route=asked.route,
                body_sha256=asked.body_sha256,
            )
            session.add(row)
            await session.flush()
            return row.id
    except IntegrityError:
        async with transaction(database, asked.scope, read_only=True) as session:
            earlier = await repository.find(session, asked.scope, asked.key, asked.route)
        raise _answer(earlier, asked) from None


def _answer(earlier: IdempotencyKey | None, asked: _Request) -> Exception:
    if earlier is not None and earlier.body_sha256 != asked.body_sha256:
        return IdempotencyKeyReused("this Idempotency-Key was used with another body; take a new one")
    if earlier is None or earlier.status_code is None:  # none: it failed between our two looks
        return RequestInFlight("a request with this Idempotency-Key is still being worked on")
    return Replay(earlier.status_code, earlier.response or {})


async def _release(database: Database, handle: Once) -> None:
    if handle.reservation is not None:
        async with transaction(database, handle.scope) as session:
            await repository.release(session, handle.scope, handle.reservation)


def install(app: FastAPI) -> None:
    app.add_exception_handler(Replay, _replayed)


async def _replayed(_request: Request, replay: Exception) -> JSONResponse:
    assert isinstance(replay, Replay)
    return JSONResponse(replay.body, replay.status, headers={"Idempotency-Replayed": "true"})
