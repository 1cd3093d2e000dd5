"""The API as a process that listens: how long it waits for whom, and for how many.

uvicorn waits for ever for a head that does not end, for a body that nobody reads, and for a client that takes nothing;
here each has its time. What a proxy in front adds to it is said in docs/network.md.
"""

import asyncio
import gc
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.settings import Settings

STOP_TIMEOUT_S = 15  # requests that have begun are answered first
HEAD_TIMEOUT_S = 10.0
HEAD_BYTES = 64 << 10  # of a head, of trailers, of whatever else is no body
LINGER_S = 2.0  # for the rest of a body that was refused: a client that still sends would not see the answer
WRITE_TIMEOUT_S = 60.0  # without a client taking anything of what waits for it
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)


def run(settings: Settings) -> None:
    """Until a signal comes."""
    uvicorn.run(
        "app.main:from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        log_config=None,  # app.infra.logging writes all lines, in one form
        server_header=False,
        timeout_graceful_shutdown=STOP_TIMEOUT_S - 5,
        **options(settings),
    )


def leave_the_start_alone() -> None:
    """A full collection of garbage reads every object of the process, on the loop. What the start has made
    stays anyway.

    [measured on two AVX2 cores, while bodies of a megabyte are refused: a collection takes 0.20 to 0.28 s, and after
    this 0.05 to 0.10 s]
    """
    gc.collect()
    gc.freeze()


def options(settings: Settings) -> dict[str, Any]:
    """Of every uvicorn that serves the API."""
    return {"http": BoundedProtocol, "ws": "none", "limit_concurrency": settings.max_connections}


class BoundedProtocol(HttpToolsProtocol):
    """Of one connection."""

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self._most, self.limit_concurrency = self.limit_concurrency, None  # counted when a connection is made
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._head_bytes = 0  # bytes since the last that were of a body, or ended a head

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._most is not None and len(self.connections) > self._most:
            transport.write(_FULL)
            transport.close()
            return
        self._end_after("head", HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        for name in tuple(self._timers):
            self._in_time(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body):
            self._end_after("head", HEAD_TIMEOUT_S)
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > HEAD_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        self._end_after("head", HEAD_TIMEOUT_S)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_time("head")
        self._head_bytes = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._head_bytes = 0
        self._in_time("rest")
        super().on_message_complete()
        self.cycle.more_body = False  # which is left as it was where the answer came before the body's end

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.more_body and not self.transport.is_closing():
            self._end_after("rest", LINGER_S)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._end_after("write", WRITE_TIMEOUT_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._in_time("write")

    def _end_after(self, name: str, seconds: float) -> None:
        """The connection, unless `_in_time` comes first; a second call does not put it off."""
        if name not in self._timers:
            self._timers[name] = self.loop.call_later(seconds, self.transport.abort)

    def _in_time(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()
