"""Every operation that the OpenAPI document has, and how one is called without a client that helps."""

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import anyio
from fastapi import FastAPI
from starlette.types import Message, Receive

_SOMETHING = str(UUID(int=7))
_IN_PATHS = {"{kind}": "sft", "{number}": "1"}


class Operation(NamedTuple):
    """scopes: as declared; None: it needs no key."""

    method: str
    path: str
    scopes: frozenset[str] | None
    takes_a_body: bool

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def operations(api: FastAPI) -> Iterator[Operation]:
    for path, methods in api.openapi()["paths"].items():
        for method, said in methods.items():
            security = said.get("security")
            scopes = None if security is None else frozenset(security[0]["ApiKey"])
            yield Operation(method.upper(), path, scopes, "requestBody" in said)


async def ask(
    api: FastAPI, operation: Operation, receive: Receive, headers: dict[str, str] | None = None
) -> Answer:
    """receive: what the server would hand over of the body."""
    parts = (_IN_PATHS.get(part, _SOMETHING) if "{" in part else part for part in operation.path.split("/"))
    path = "/".join(parts)
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": operation.method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
        "client": ("127.0.0.1", 1),
        "server": ("steerwise.test", 80),
    }
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await api(scope, receive, send)
    start, *rest = sent
    return Answer(
        start["status"],
        {k.decode().lower(): v.decode() for k, v in start["headers"]},
        b"".join(message.get("body", b"") for message in rest),
    )


def empty_body() -> Receive:
    """As a server passes on a request without a body: nothing comes after it, until the client goes away."""
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await anyio.sleep_forever()
        sent = True
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive
