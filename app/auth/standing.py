"""Whether the key (or the token) of a request is still good while the request lasts: streams, uploads, batches.

Many requests of one key ask the database once a second between them.
"""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Any, NoReturn

import anyio
import structlog
from fastapi import Request
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.types import Message, Receive

from app.auth import people, service
from app.auth.principal import Principal
from app.errors import Unauthorized
from app.http.problems import document, request_id_of
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from evaluation.inference import event_stream

CHECK_S = 1.0
_EVENTS = "text/event-stream"
_END = object()
log = structlog.get_logger()


class Standing:
    """Of one request, from the moment that its key was checked."""

    def __init__(self, request: Request, caller: Principal):
        self._request, self._caller = request, caller
        self._fresh_until = time.monotonic() + CHECK_S

    async def check(self) -> None:
        """Raises: Unauthorized where the key has ended since; what is known may be a second old."""
        if time.monotonic() < self._fresh_until:
            return
        state = self._request.app.state
        look = partial(_look, state.database, self._caller)
        try:
            await state.standing.of(self._caller.key_id, look)
        except (InterfaceError, OperationalError, ConnectionError) as error:
            log.warning("standing_not_known", error=repr(error))  # nor can anybody revoke a key meanwhile
            service.check_expiry(self._caller)

    async def lost(self) -> NoReturn:
        """Beside work that takes long. Raises: Unauthorized, and never returns."""
        while True:
            await asyncio.sleep(CHECK_S)
            await self.check()

    def watched(self, receive: Receive) -> Receive:
        """For a body that takes long to come."""

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                await self.check()
            return message

        return received

    async def pieces(self, streamed: AsyncIterable[Any], media_type: str | None) -> AsyncIterator[Any]:
        """What a response streams, for as long as the key stands. Events end with a problem, others are cut off."""
        inner = aiter(streamed)
        upcoming: asyncio.Future[Any] | None = None
        try:
            while True:
                upcoming = asyncio.ensure_future(_next(inner))
                while not (await asyncio.wait({upcoming}, timeout=CHECK_S))[0]:
                    await self.check()
                if (piece := upcoming.result()) is _END:
                    return
                await self.check()
                yield piece
        except Unauthorized as error:
            if media_type != _EVENTS:
                raise
            told = document(error, request_id_of(self._request))
            yield event_stream.written(told.model_dump_json(exclude_none=True), "problem")
        finally:
            with anyio.CancelScope(shield=True):  # a client that hung up is no reason to leave it running
                await _closed(inner, upcoming)


def of(request: Request, caller: Principal) -> Standing:
    found: Standing = Standing(request, caller)
    request.state.standing = found
    return found


async def _look(database: Database, caller: Principal) -> None:
    async with transaction(database, read_only=True) as session:
        if caller.identity is None:
            await service.check_standing(session, caller.key_id)
        else:
            await people.check_standing(session, caller)


async def _next(iterator: AsyncIterator[Any]) -> Any:
    return await anext(iterator, _END)


async def _closed(iterator: AsyncIterator[Any], upcoming: "asyncio.Future[Any] | None") -> None:
    if upcoming is not None:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)
    if (close := getattr(iterator, "aclose", None)) is not None:
        await close()
