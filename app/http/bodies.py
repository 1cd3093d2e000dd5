"""How much of a body is read, for how long it is waited for, and how much may be in it.

Parsing costs in proportion to what a stranger wrote, on the loop that answers everybody. So a body has a length that
its operation needs, a time to come in, and a number of JSON values; what is wrong with it is looked for once, and where
only if something is.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeVar, cast

from fastapi import Request
from fastapi._compat import ModelField
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BodyTooSlow, InvalidRequest, Problem, TooLarge
from evaluation.contract.strict_json import unusable

T = TypeVar("T")

MAX_BODY_BYTES = 1 << 20  # of any operation that does not stream its body
SMALL_BODY_BYTES = 16 << 10  # of one that does not say how much it needs
MAX_VALUES = 50_000  # in one body: keys and values of objects, items of lists
BODY_TIMEOUT_S = 30.0


class BodyCap:
    """Refuses a body above the cap while it comes in, whatever its headers say, and one that does not come."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        cap = scope["steerwise.body"] = _Cap(receive)
        await self.app(scope, cap.receive, send)


class _Cap:
    def __init__(self, receive: Receive):
        self._receive = receive
        self.max_bytes: int | None = MAX_BODY_BYTES
        self.streamed = False
        self._seen = 0
        self._more = True
        self._until: float | None = None

    async def receive(self) -> Message:
        message = await (self._in_time() if self._more and not self.streamed else self._receive())
        if message["type"] != "http.request":
            return message
        self._seen += len(message.get("body", b""))
        self._more = message.get("more_body", False)
        if self.max_bytes is not None and self._seen > self.max_bytes:
            raise TooLarge(f"the body is larger than {self.max_bytes} bytes")
        return message

    async def _in_time(self) -> Message:
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + BODY_TIMEOUT_S
        try:
            async with asyncio.timeout_at(self._until):
                return await self._receive()
        except TimeoutError:
            raise BodyTooSlow(f"the body did not come in within {BODY_TIMEOUT_S:g} s") from None


def check_length(request: Request, max_bytes: int) -> None:
    """By what its header says now, and as it comes in. Raises: TooLarge."""
    _cap_of(request).max_bytes = max_bytes
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and int(said[:20]) > max_bytes:
        raise TooLarge(f"the body is larger than {max_bytes} bytes")


def lift_body_cap(request: Request, max_bytes: int | None = None) -> None:
    """For an endpoint that streams its body and counts and times it itself; before it reads the first block."""
    cap = _cap_of(request)
    cap.max_bytes, cap.streamed = max_bytes, True


def _cap_of(request: Request) -> _Cap:
    return cast(_Cap, request.scope["steerwise.body"])


def max_bytes_of(body: ModelField | None) -> int | None:
    """As the body's model says with MAX_BYTES. None: the operation describes no body; it reads none, or streams it."""
    if body is None:
        return None
    found: int = getattr(body.field_info.annotation, "MAX_BYTES", SMALL_BODY_BYTES)
    return found


class BoundedRequest(Request):
    async def json(self) -> Any:
        """Raises: InvalidRequest, json.JSONDecodeError."""
        if not hasattr(self, "_json"):
            self._json = parsed(await self.body())
        return self._json


def parsed(body: bytes) -> Any:
    """Raises: InvalidRequest, json.JSONDecodeError."""
    if body.count(b"[") + body.count(b"{") > MAX_VALUES:  # lists are what is dear to make
        raise _too_many()
    count = _counted_numbers()
    found = json.loads(body, parse_int=count(int), parse_float=count(float), object_pairs_hook=_once)
    check_values(found)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that stands twice Python takes the last, and drops the other without a word. Raises: InvalidRequest."""
    made = dict(pairs)
    if len(made) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise _invalid("", f"the key {twice!r:.60} stands twice in one object")
    return made


def _counted_numbers() -> Callable[[Callable[[str], T]], Callable[[str], T]]:
    """Of one body: so that a megabyte of them, each of which is dear to read, is not read to its end."""
    left = MAX_VALUES

    def counted(read: Callable[[str], T]) -> Callable[[str], T]:
        def read_one_more(text: str) -> T:
            nonlocal left
            left -= 1
            if left < 0:
                raise _too_many()
            return read(text)

        return read_one_more

    return counted


def check_values(parsed: Any) -> None:
    """That there are not too many, and that a database can hold them. Raises: InvalidRequest."""
    level, seen = [parsed], 0
    while level:
        lists = [value for value in level if isinstance(value, list)]
        objects = [value for value in level if isinstance(value, dict)]
        seen += sum(map(len, lists)) + 2 * sum(map(len, objects))
        if seen > MAX_VALUES:
            raise _too_many()
        level = [*chain.from_iterable(lists), *chain.from_iterable(value.values() for value in objects)]
    if (found := next(unusable(parsed), None)) is not None:
        raise _invalid(found.where, found.message)


def _too_many() -> InvalidRequest:
    return _invalid("", f"holds more than {MAX_VALUES} values; send it in parts")


def _invalid(where: str, message: str) -> InvalidRequest:
    problem = Problem(f"body.{where}".rstrip("."), message)
    return InvalidRequest(f"{problem.where}: {problem.message}", problems=[problem])
