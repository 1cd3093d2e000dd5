"""What both clients share: a call as it is sent, when it is sent again, and how an answer is read."""

import json
import os
import random
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from evaluation.inference import event_stream, http
from steerwise.errors import ApiError, SteerwiseError, Unreachable
from steerwise.models import Answer
from steerwise.operations import Operation

M = TypeVar("M", bound=BaseModel)

DEFAULT_URL: Final = "http://127.0.0.1:8000"
TIMEOUT: Final = httpx.Timeout(30, read=300)  # a model may think for a while
PAGE: Final = 200  # the most that the API gives at once
BLOCK_BYTES: Final = 1 << 20
LOOK_EVERY_S: Final = 2.0
# States of what is not at its end.
DATASET_GOES_ON: Final = frozenset({"uploading", "uploaded", "validating"})
RUN_GOES_ON: Final = frozenset({"queued", "running"})
GATE_GOES_ON: Final = RUN_GOES_ON
DEPLOYMENT_GOES_ON: Final = frozenset({"pending", "loading"})
_RETRIES: Final = http.Retries(backoff_s=0.5)


class Call(NamedTuple):
    """headers: besides those of every call. body: sent as JSON."""

    method: str
    path: str
    query: dict[str, Any]
    headers: dict[str, str]
    body: Any = None

    def with_cursor(self, cursor: str | None) -> "Call":
        return self._replace(query=self.query | {"limit": PAGE} | ({"cursor": cursor} if cursor else {}))


class Page(NamedTuple, Generic[M]):
    items: list[M]
    next_cursor: str | None


def call(
    operation: Operation,
    *,
    body: Any = None,
    query: Mapping[str, Any] | None = None,
    key: str | None = None,
    **ids: str,
) -> Call:
    """body: sent as JSON. key: for `Idempotency-Key`; by default a new one. ids: of the path."""
    headers = {"Idempotency-Key": key or str(uuid.uuid4())} if operation.once else {}
    if operation.path.endswith("/publish"):
        headers["If-Match"] = "*"
    asked = {name.removesuffix("_"): value for name, value in (query or {}).items() if value is not None}
    path = operation.path.format(**{name: quote(str(value), safe="") for name, value in ids.items()})
    return Call(operation.method, path, asked, headers, body)


def with_file(call: Call) -> Call:
    """Its bytes say what a file is."""
    return call._replace(headers=call.headers | {"Content-Type": "application/octet-stream"})


def url_of_environment() -> str:
    return os.environ.get("STEERWISE_URL") or DEFAULT_URL


def key_of_environment() -> str | None:
    return os.environ.get("STEERWISE_API_KEY") or None


def headers_of(api_key: str | None, tenant_id: str | None) -> dict[str, str]:
    known = {"Authorization": api_key and f"Bearer {api_key}", "X-Tenant": tenant_id}
    return {"User-Agent": "steerwise-python"} | {name: value for name, value in known.items() if value}


def pauses(retries: int) -> http.Pause:
    """Between attempts, of which there are so many after the first. What would only fail again is not sent again."""

    def pause(error: BaseException, tried: int) -> float | None:
        if tried > retries or not _passing(error):
            return None
        told = error.retry_after_s if isinstance(error, ApiError) else None
        backoff_s = _RETRIES.backoff_s * random.Random().uniform(0.75, 1.25)
        return http.pause_s(_RETRIES._replace(backoff_s=backoff_s), tried, told)

    return pause


def _passing(error: BaseException) -> bool:
    if isinstance(error, ApiError):
        return error.status in _RETRIES.statuses or error.code == "request_in_flight"
    return isinstance(error, httpx.TransportError)


def page_of(kind: type[M], content: bytes) -> Page[M]:
    body = json.loads(content)
    return Page([kind.model_validate(item) for item in body["items"]], body.get("next_cursor"))


# ---------------------------------------------------------------------------------------------------------- streams


def reached(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Raises: Unreachable, where the rest never came."""
    try:
        yield from blocks
    except httpx.TransportError as error:
        raise Unreachable(f"the answer broke off: {error!r}") from error


async def async_reached(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Raises: Unreachable, where the rest never came."""
    try:
        async for block in blocks:
            yield block
    except httpx.TransportError as error:
        raise Unreachable(f"the answer broke off: {error!r}") from error


class _Events:
    """Of server-sent events, the pieces of a reasoning and then the answer."""

    def __init__(self) -> None:
        self._kind, self._data = "message", list[str]()
        self.answered = False

    def read(self, line: str) -> "Iterator[str | Answer]":
        """Raises: ApiError, where a problem came instead."""
        if line:
            name, _, value = line.partition(":")
            if name == "event":
                self._kind = value.removeprefix(" ")
            elif name == "data":
                self._data.append(value.removeprefix(" "))
            return
        kind, data = self._kind, "\n".join(self._data)
        self._kind, self._data = "message", []
        if kind == "reasoning":
            yield str(Reasoning.model_validate_json(data).text)
        elif kind == "answer":
            self.answered = True
            yield Answer.model_validate_json(data)
        elif kind == "problem":
            problem = Problem.model_validate_json(data)
            raise ApiError(problem.status, problem.model_dump(), {})

    def check_whole(self) -> None:
        if not self.answered:
            raise SteerwiseError("the stream broke off before the answer came; ask again")


class Reasoning(BaseModel):
    text: str


class Problem(BaseModel):
    model_config = {"extra": "allow"}

    status: int


def pieces(blocks: Iterable[bytes]) -> "Iterator[str | Answer]":
    events = _Events()
    for line in event_stream.lines(blocks):
        yield from events.read(line)
    events.check_whole()


async def async_pieces(blocks: AsyncIterator[bytes]) -> "AsyncIterator[str | Answer]":
    events = _Events()
    async for line in event_stream.async_lines(blocks):
        for piece in events.read(line):
            yield piece
    events.check_whole()
