"""What a process does again and again while it works, so that nobody who is answered waits for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from app.infra import outage

log = structlog.get_logger()


@asynccontextmanager
async def flushed_to_the_end(
    pause_s: float, flush: Callable[[], Awaitable[None]], event: str, lost: str
) -> AsyncIterator[None]:
    """What is held in memory is written periodically, and once more at the end. flush: raises where it could not write,
    and keeps what it has. lost: logged where the last one fails."""
    try:
        async with periodically(pause_s, flush, event):
            yield
    finally:
        try:
            await flush()
        except Exception:
            log.exception(lost)


@asynccontextmanager
async def periodically(
    pause_s: float, work: Callable[[], Awaitable[None]], event: str
) -> AsyncIterator[None]:
    """No trouble with `work` is a reason to end anything. event: logged once while
    it lasts; with a traceback where the trouble is ours."""
    task = asyncio.create_task(_again_and_again(pause_s, work, event))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _again_and_again(pause_s: float, work: Callable[[], Awaitable[None]], event: str) -> None:
    away = False
    while True:
        await asyncio.sleep(pause_s)
        try:
            await work()
            away = False
        except Exception as error:  # whatever it is, it is tried again after the next pause
            if not away:
                told = f"{type(error).__name__}: {outage.reason(error)}"
                log.warning(event, error=told, exc_info=None if outage.passes(error) else error)
            away = True
