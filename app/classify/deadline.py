"""How long an answer is waited for: until its time is up, or nobody wants it any more."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from fastapi import Request

from app.auth.standing import Standing
from app.classify.refusals import ClientGone
from app.errors import ServingAway

T = TypeVar("T")


async def while_wanted(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled (and with it the model's) where the client hangs up or its key ends.

    request: whose body has been read. Raises: ClientGone, Unauthorized.
    """
    standing: Standing = request.state.standing
    task = asyncio.ensure_future(work)
    ends = [asyncio.ensure_future(end) for end in (_hung_up(request), standing.lost())]
    try:
        await asyncio.wait({task, *ends}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if ends[1].done():
            ends[1].result()
        raise ClientGone("the client went away before it was answered")
    finally:
        for one in (task, *ends):
            one.cancel()
        await asyncio.gather(task, *ends, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def in_time(work: Awaitable[T], within_s: float) -> T:
    """Raises: ServingAway."""
    try:
        async with asyncio.timeout(within_s):
            return await work
    except TimeoutError:
        raise ServingAway(f"the model did not answer within {within_s:g} s") from None


async def each_in_time(pieces: AsyncIterator[T], within_s: float) -> AsyncIterator[T]:
    """within_s: from one piece to the next. Raises: ServingAway."""
    while (piece := await in_time(anext(pieces, None), within_s)) is not None:
        yield piece
