"""Chat completions over HTTP from any OpenAI-compatible server: repeated where it is overloaded, whole or in chunks."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
from pydantic_core import from_json

from evaluation.contract.chat import folded, is_about_roles
from evaluation.inference import completions, event_stream
from evaluation.inference.completions import Completion, PredictorError
from evaluation.inference.http import Patience, Retries, sent

ROUTE = "/v1/chat/completions"


class Sending(NamedTuple):
    retries: Retries = Retries()
    cache_salt: str | None = None  # keeps one tenant's cached prefixes from another's
    headers: Mapping[str, str] = MappingProxyType({})
    patience: Patience | None = None  # with a server that is busy; None: its refusals are failed attempts


DEFAULT_SENDING = Sending()


def connect(
    base_url: str = "http://localhost",
    *,
    socket_path: str | None = None,
    api_key: str | None = None,
    timeout_s: float = 120,
) -> httpx.AsyncClient:
    """base_url: with or without /v1. Over socket_path its host is only a name."""
    transport = httpx.AsyncHTTPTransport(uds=socket_path) if socket_path else None
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    root = root_of(base_url)
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=64)
    wait = httpx.Timeout(timeout_s, connect=10)
    return httpx.AsyncClient(base_url=root, transport=transport, headers=headers, timeout=wait, limits=limits)


def root_of(base_url: str) -> str:
    return base_url.rstrip("/").removesuffix("/v1")


async def check_continues(client: httpx.AsyncClient, model: str) -> None:
    """Whether a server goes on with a message that was begun for it, as reading a code at once needs.

    It is asked for what no server can do, to go on with a message and to begin one: a server that knows of the former
    refuses, and one that answers did not look. Raises: PredictorError.
    """
    impossible = {
        "model": model,
        "messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "Answer:"}],
        "max_tokens": 1,
        "continue_final_message": True,
        "add_generation_prompt": True,
    }
    try:
        response = await client.post(ROUTE, json=impossible)
    except httpx.RequestError as error:
        raise _unanswered(error) from error
    if response.status_code in (400, 422) and "continue_final_message" in response.text:
        return
    raise PredictorError(
        f"the server of {model} does not go on with a message that was begun for it (vLLM does: "
        "`continue_final_message`), and without that there is no mode fast; ask it in mode reasoned"
    )


class ModelClient:
    """A server that turns out to refuse a system message is sent none from then on."""

    def __init__(self, http: httpx.AsyncClient, sending: Sending, *, system_role: bool):
        self._http, self._sending, self._system_role = http, sending, system_role

    async def complete(self, body: Mapping[str, Any]) -> Completion:
        """Raises: PredictorError."""
        try:
            return completions.read(await self._post(self._shown(body)))
        except PredictorError as error:
            if not self._refuses_roles(error):
                raise
        found = completions.read(await self._post(_without_system(body)))
        self._system_role = False
        return found

    async def chunks(self, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """Asked once, without a second attempt. Raises: PredictorError."""
        try:
            async with aclosing(self._streamed(self._shown(body))) as chunks:
                async for chunk in chunks:
                    yield chunk
                return
        except PredictorError as error:
            if not self._refuses_roles(error):
                raise
        async with aclosing(self._streamed(_without_system(body))) as chunks:
            async for chunk in chunks:
                self._system_role = False
                yield chunk

    def _shown(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return body if self._system_role else _without_system(body)

    def _refuses_roles(self, error: PredictorError) -> bool:
        refused = error.status is not None and 400 <= error.status < 500
        return self._system_role and refused and is_about_roles(str(error))

    async def _streamed(self, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        sending = self._http.stream("POST", ROUTE, json=body, headers=self._sending.headers)
        try:
            async with sending as response:
                if response.status_code != 200:
                    await response.aread()
                    raise _refused(response)
                async for chunk in completions.chunks(event_stream.async_lines(response.aiter_bytes())):
                    yield chunk
        except httpx.RequestError as error:
            raise _unanswered(error) from error

    async def _post(self, body: Mapping[str, Any]) -> Any:
        return await post(self._http, ROUTE, body, self._sending)


async def post(
    client: httpx.AsyncClient, route: str, body: Mapping[str, Any], sending: Sending = DEFAULT_SENDING
) -> Any:
    """The JSON that a server answers with. Raises: PredictorError."""
    try:
        response = await sent(
            lambda: client.post(route, json=body, headers=sending.headers), sending.retries, sending.patience
        )
    except httpx.RequestError as error:
        raise _unanswered(error) from error
    if response.status_code != 200:
        raise _refused(response)
    return _json(response)


def _without_system(body: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**body, "messages": folded(body["messages"])}


def _unanswered(error: httpx.RequestError) -> PredictorError:
    if isinstance(error, httpx.TransportError):
        return PredictorError(f"the model server cannot be reached: {error!r}")
    return PredictorError(f"the model server's response cannot be read: {error!r}")


def _refused(response: httpx.Response) -> PredictorError:
    """Its text on one line, as a person reads it among others."""
    location = response.headers.get("location") if response.is_redirect else None
    text = f"it sends to {location}" if location else " ".join(response.text.split())
    return PredictorError(f"{response.status_code}: {text[:300]}", response.status_code)


def _json(response: httpx.Response) -> Any:
    try:
        # Half the time of the standard library's, of 40 kB with the log-probs.
        return from_json(response.content)
    except ValueError as error:
        raise PredictorError("the model server's response is not JSON", response.status_code) from error
