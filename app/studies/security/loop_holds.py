"""How long the event loop was held at once, in processor time: in which nobody else is answered."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Holds:
    longest_s = 0.0


@asynccontextmanager
async def watched() -> AsyncIterator[Holds]:
    """In processor time, so that a busy machine does not count. A callback is what a loop runs at once.

    What is asked in process runs in the callback that asks, so that callback begins and ends within the watch.
    """
    holds, run = Holds(), asyncio.events.Handle._run

    def timed(handle: Any) -> None:
        began = time.thread_time()
        run(handle)
        holds.longest_s = max(holds.longest_s, time.thread_time() - began)

    asyncio.events.Handle._run = timed  # type: ignore[assignment,method-assign]
    try:
        await asyncio.sleep(0)
        yield holds
        await asyncio.sleep(0)
    finally:
        asyncio.events.Handle._run = run  # type: ignore[method-assign]
