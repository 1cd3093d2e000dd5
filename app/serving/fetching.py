"""Runs inside vLLM's API server (`--middleware`): an adapter that is asked for by its key in the storage is fetched,
checked, and loaded from this machine's disk. So a model server shares no disk with whoever loads its adapters.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, NamedTuple

from app.errors import AdapterRefused, AppError
from app.infra import outage
from app.infra.storage import BadKey, open_storage
from app.serving.adapter_store import fetch_for_serving
from app.settings import Settings, load_settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

ROUTE: Final = "/v1/load_lora_adapter"
STORED: Final = "storage:"  # before a key, in the place of a path
MAX_BODY_BYTES: Final = 16 << 10
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Refusal(NamedTuple):
    status: int
    message: str


def stored_at(key: str) -> str:
    """What to send as `lora_path`. key: of the adapter's folder in the storage."""
    return STORED + key


class FetchesAdapters:
    """ASGI. Every other request goes on as it came."""

    def __init__(self, app: Asgi, settings: Settings | None = None):
        self._app = app
        self._settings = settings

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != ROUTE:
            await self._app(scope, receive, send)
            return
        body = await _body(receive)
        answer = Refusal(413, "the body is too long") if body is None else await self._placed(body)
        if isinstance(answer, Refusal):
            await _refuse(send, answer)
            return
        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        headers.append((b"content-length", str(len(answer)).encode()))
        await self._app({**scope, "headers": headers}, _replayed(answer, receive), send)

    async def _placed(self, body: bytes) -> bytes | Refusal:
        """The body with a path of this machine in the place of a key; as it is where it names none."""
        try:
            said = json.loads(body)
            path, name = said["lora_path"], said["lora_name"]
            if not path.startswith(STORED):
                return body
        except (ValueError, KeyError, TypeError, AttributeError):
            return body  # vLLM says what is wrong with it
        if not isinstance(name, str) or _SHA256.fullmatch(name) is None:
            return Refusal(400, "an adapter of the storage is loaded under its own SHA-256")
        settings = self._settings or load_settings()
        try:
            folder = await asyncio.to_thread(_fetch, settings, path.removeprefix(STORED), name)
        except FileNotFoundError:  # its message would say where the storage is
            return Refusal(400, "the adapter cannot be loaded: it is not in the storage")
        except (BadKey, AdapterRefused) as error:
            return Refusal(400, f"the adapter cannot be loaded: {error}")
        except Exception as error:
            told = outage.told(error)
            if told is None and not isinstance(error, AppError):
                raise
            return Refusal(503, str(told or error))
        return json.dumps(said | {"lora_path": folder}).encode()


def _fetch(settings: Settings, key: str, sha256: str) -> str:
    return str(fetch_for_serving(open_storage(settings.storage_url), settings, key, sha256).resolve())


async def _body(receive: Receive) -> bytes | None:
    """None where it is longer than any that is meant, or its sender went away."""
    found = b""
    while True:
        message = await receive()
        found += bytes(message.get("body", b""))
        if message["type"] != "http.request" or len(found) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return found


def _replayed(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, refusal: Refusal) -> None:
    """In the form of vLLM's own errors."""
    content = json.dumps({"error": {"message": refusal.message, "code": refusal.status}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
