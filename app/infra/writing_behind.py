"""What a process holds in memory and writes every few seconds, so that nobody who is answered waits for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

log = structlog.get_logger()


@asynccontextmanager
async def flushed_to_the_end(
    pause_s: float, flush: Callable[[], Awaitable[None]], event: str, lost: str
) -> AsyncIterator[None]:
    """As `flushed_every`, and once more at the end. lost: logged where that last one fails."""
    try:
        async with flushed_every(pause_s, flush, event):
            yield
    finally:
        try:
            await flush()
        except Exception:
            log.exception(lost)


@asynccontextmanager
async def flushed_every(
    pause_s: float, flush: Callable[[], Awaitable[None]], event: str
) -> AsyncIterator[None]:
    """flush: raises where it could not write, and keeps what it has. event: logged once for an outage."""
    task = asyncio.create_task(_again_and_again(pause_s, flush, event))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _again_and_again(pause_s: float, flush: Callable[[], Awaitable[None]], event: str) -> None:
    away = False
    while True:
        await asyncio.sleep(pause_s)
        try:
            await flush()
            away = False
        except Exception as error:  # noqa: BLE001 (whatever it is, what is held is still here after the next pause)
            if not away:
                log.warning(event, error=repr(error))
            away = True
