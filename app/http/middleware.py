"""What surrounds every request: its id, the line about it in the log, its answer's headers, and the last resort."""

import re
import time
import uuid
from collections.abc import Mapping
from types import MappingProxyType

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.problems import render, unexpected
from app.infra import metrics, tracing

HEADER = "X-Request-ID"
_GIVEN = re.compile(r"[A-Za-z0-9_-]{8,64}")
_ID = re.compile(r"[0-9a-fA-F-]{1,36}")  # what else stands in a path was not checked yet, and may be anything
_QUIET = frozenset({"/livez", "/readyz"})
# What every answer says to a browser: that it is no page, no script, nobody's frame, and nothing to keep.
ANSWER_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
log = structlog.get_logger()


class AnswerHeaders:
    """An answer that needs another than those above says it itself, and keeps it."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in ANSWER_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, told)


class RequestContext:
    """Around what answers, so that the answer to an unexpected error has the id and the line too.

    also: by path, the header in which the clients of a wire look for the id.
    """

    def __init__(self, app: ASGIApp, also: Mapping[str, str] = MappingProxyType({})):
        self.app, self._also = app, also

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        trace = tracing.trace_of(Headers(scope=scope).get(tracing.HEADER))
        scope["state"]["trace"] = trace
        structlog.contextvars.bind_contextvars(request_id=request_id, trace_id=trace.trace_id)
        answer = _Answer(send, {HEADER: request_id, self._also.get(scope["path"], HEADER): request_id})
        start = time.perf_counter()
        try:
            await self.app(scope, receive, answer.send)
        except Exception as error:
            known = unexpected(error)
            if answer.status is not None:
                raise  # half an answer is out; the server must cut the connection
            await render(known, scope)(scope, receive, answer.send)
        finally:
            _log_line(scope, answer.status, time.perf_counter() - start)
            structlog.contextvars.clear_contextvars()


class _Answer:
    def __init__(self, send: Send, headers: Mapping[str, str]):
        self._send, self._headers = send, headers
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message).update(self._headers)
        await self._send(message)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get(HEADER, "")
    return given if _GIVEN.fullmatch(given) else uuid.uuid4().hex


def _log_line(scope: Scope, status: int | None, passed_s: float) -> None:
    # The route, not the path: ids belong to fields of their own, and a query may hold anything.
    route = getattr(scope.get("route"), "path", None)
    metrics.request_ended(scope["method"], route, status, passed_s)
    if scope["path"] in _QUIET and status == 200:
        return
    log.info(
        "request",
        method=scope["method"],
        route=route,
        status=status,
        duration_s=round(passed_s, 4),
        ids={name: value for name, value in scope.get("path_params", {}).items() if _ID.fullmatch(value)},
    )
