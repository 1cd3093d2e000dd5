"""How long the event loop was held at once, in processor time: in which nobody else is answered."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

_TURN_S = 0.005


class Holds:
    """longest_s: of the loop's own thread, in one callback. starved_s: of the whole process, between two turns of it:
    code in C that runs in another thread and lets no other run holds the loop too. What threads do beside it counts as
    well, so a little of it says nothing.
    """

    longest_s = 0.0
    starved_s = 0.0


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
    turning = asyncio.create_task(_turn(holds))
    try:
        await asyncio.sleep(0)
        yield holds
        await asyncio.sleep(2 * _TURN_S)
    finally:
        turning.cancel()
        asyncio.events.Handle._run = run  # type: ignore[method-assign]


async def _turn(holds: Holds) -> None:
    before = time.process_time()
    while True:
        await asyncio.sleep(_TURN_S)
        now = time.process_time()
        holds.starved_s = max(holds.starved_s, now - before)
        before = now
