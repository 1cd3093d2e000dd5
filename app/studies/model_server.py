"""A model server that answers everything alike, a fixed time after it was asked and however much is asked at once: so
that what is measured in front of it is the service and nothing else."""

import asyncio
import json
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import uvicorn
from starlette.responses import JSONResponse

from app.local import recipes
from app.serving.vllm import BASE_NAME
from evaluation.contract.render import ANSWER_MARK
from evaluation.terminal import json_text

_SURE = 0.7  # of the code that is answered; the others share what is left


class FixedServer(NamedTuple):
    """bodies: of all completions that were asked for, as they came; kept where somebody wants to read them."""

    url: str
    bodies: list[bytes]


@contextmanager
def model_server(
    codes: Sequence[str], latency_s: float, *, keeping: bool = False, places: int | None = None
) -> Iterator[FixedServer]:
    """codes: that a prompt may have, of which the first is always answered.

    places: for adapters, as a real one has: it is asked to load and to unload them, and answers for no other. None: it
    answers whatever is asked for.
    """
    port, bodies = recipes.free_port(), list[bytes]()
    adapters = None if places is None else AdapterPlaces(places)
    answering = _Fixed(codes, latency_s, bodies if keeping else None, adapters)
    config = uvicorn.Config(answering, host="127.0.0.1", port=port, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield FixedServer(f"http://127.0.0.1:{port}", bodies)
    finally:
        server.should_exit = True
        thread.join()


class AdapterPlaces:
    """The adapters that are loaded, and what is answered to whoever asks of them."""

    def __init__(self, places: int):
        self.places = places
        self.loaded: list[str] = []

    def answer(self, path: str, asked: dict[str, Any]) -> tuple[int, Any] | None:
        """None where the model is asked, and is there."""
        name = asked.get("lora_name")
        match path:
            case "/v1/models":
                return 200, {"data": [{"id": one} for one in (BASE_NAME, *self.loaded)]}
            case "/v1/load_lora_adapter":
                if name in self.loaded or len(self.loaded) >= self.places:
                    return 400, {"error": "it is loaded already, or there is no place"}
                self.loaded.append(str(name))
                return 200, {}
            case "/v1/unload_lora_adapter":
                if name not in self.loaded:
                    return 404, {"error": "it is not loaded"}
                self.loaded.remove(name)
                return 200, {}
        known = asked.get("model") in (None, BASE_NAME, *self.loaded)
        return None if known else (404, {"error": "there is no such model"})


class _Fixed:
    def __init__(
        self,
        codes: Sequence[str],
        latency_s: float,
        bodies: list[bytes] | None,
        adapters: AdapterPlaces | None,
    ):
        rest = math.log((1 - _SURE) / max(1, len(codes) - 1))
        top = [{"token": f" {code}", "logprob": rest} for code in codes[1:]]
        code = {"token": f" {codes[0]}", "logprob": math.log(_SURE)}
        said = {"token": f"Because.{ANSWER_MARK}", "logprob": 0.0, "top_logprobs": []}
        answered = code | {"top_logprobs": [code, *top]}
        self._at_once, self._whole = _Answers([answered]), _Answers([said, answered])
        self._latency_s, self._bodies, self._adapters = latency_s, bodies, adapters

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        content, more = b"", True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        asked = json.loads(content) if content else {}
        if self._bodies is not None and content:
            self._bodies.append(content)
        told = None if self._adapters is None else self._adapters.answer(scope["path"], asked)
        if told is not None:
            await JSONResponse(told[1], told[0])(scope, receive, send)
            return
        await asyncio.sleep(self._latency_s)
        answers = self._at_once if asked.get("max_tokens") == 1 else self._whole
        streamed = asked.get("stream") is True
        kind = b"text/event-stream" if streamed else b"application/json"
        with suppress(OSError):
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
            await send({"type": "http.response.body", "body": answers.events if streamed else answers.body})


class _Answers:
    """The same answer in one piece and as a stream."""

    def __init__(self, tokens: list[dict[str, Any]]):
        text, logprobs = "".join(token["token"] for token in tokens), {"content": tokens}
        message = {"message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        ended = {"index": 0, "logprobs": logprobs, "finish_reason": "stop"}
        self.body = json_text({"choices": [ended | message], "usage": usage}).encode()
        chunks = [{"choices": [ended | {"delta": {"content": text}}]}, {"choices": [], "usage": usage}]
        lines = [*map(json.dumps, chunks), "[DONE]"]
        self.events = "".join(f"data: {line}\n\n" for line in lines).encode()
