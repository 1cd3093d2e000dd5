"""The body of an upload request, written to disk as it arrives."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import structlog
from starlette.requests import ClientDisconnect

from app.datasets.partial import BLOCK_BYTES, Partial
from app.errors import AppError, InvalidRequest, NoSpace, Problem, Unavailable
from app.infra import outage
from training.protocol import Fault

IDLE_TIMEOUT_S = 60.0
LEAST_BYTES = 64 << 10  # in each such time: who sends less holds a place that another could use
log = structlog.get_logger()


class Bounds(NamedTuple):
    """How long the whole file may become: by what the request says, and by our limits, with what to say beyond."""

    said_bytes: int | None
    limit_bytes: int
    over: AppError


class Receiver:
    """ended: the body came to its proper end. stalled: its sender fell silent.

    ahead: told how long the file will be, before it is written to; it raises where that is too much.
    """

    def __init__(self, file: Partial, bounds: Bounds, ahead: Callable[[int], Awaitable[None]]):
        self.file, self.bounds, self._ahead = file, bounds, ahead
        self.ended = False
        self.stalled = False
        self._counted_from = time.monotonic()
        self._counted_bytes = 0

    async def take(self, blocks: AsyncIterator[bytes]) -> None:
        """A sender that goes away is no error: what came is kept. Raises: InvalidRequest, NoSpace, `over`."""
        held = bytearray()
        try:
            while (block := await _next(blocks)) is not None:
                self._check_rate(len(block))
                self._check(self.file.received_bytes + len(held) + len(block))
                held += block
                if len(held) >= BLOCK_BYTES:
                    await self._write(held)
            self.ended = True
        except ClientDisconnect:
            log.info("upload_interrupted", received_bytes=self.file.received_bytes + len(held))
        except TimeoutError:
            self.stalled = True
        await self._write(held)

    def _check(self, length: int) -> None:
        if self.bounds.said_bytes is not None and length > self.bounds.said_bytes:
            problem = Problem("body", "is longer than its headers say")
            raise InvalidRequest(f"{problem.where} {problem.message}", problems=[problem])
        if length > self.bounds.limit_bytes:
            raise self.bounds.over

    def _check_rate(self, came: int) -> None:
        """Raises: TimeoutError."""
        self._counted_bytes += came
        now = time.monotonic()
        if now < self._counted_from + IDLE_TIMEOUT_S:
            return
        if self._counted_bytes < LEAST_BYTES:
            raise TimeoutError
        self._counted_from, self._counted_bytes = now, 0

    async def _write(self, held: bytearray) -> None:
        if not held:
            return
        await self._ahead(self.file.received_bytes + len(held))
        try:
            await asyncio.to_thread(self.file.append, bytes(held))
        except OSError as error:
            if outage.fault_of(error) is Fault.full:
                raise NoSpace(
                    "the disk that takes uploads is full; what has arrived is kept, and the same upload goes on when "
                    "there is room"
                ) from error
            raise Unavailable("the disk that takes uploads cannot be written now; try again") from error
        held.clear()


async def _next(blocks: AsyncIterator[bytes]) -> bytes | None:
    async with asyncio.timeout(IDLE_TIMEOUT_S):
        return await anext(blocks, None)
