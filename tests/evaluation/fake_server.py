"""A model server that answers in the chat-completion format of vLLM, with a plain function for a model.

It sees what a model would see: the rendered prompt. Served as an ASGI app behind the real httpx client, or over a
real socket for the command line.
"""

import json
import math
import re
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Protocol

import httpx

from evaluation.contract.render import candidate_codes
from evaluation.inference.http import Retries
from evaluation.inference.predictor import Codes, Sending, VllmPredictor

POOL = [code for code, _ in zip(candidate_codes(), range(40), strict=False)]
CODES = Codes(tuple(POOL), tuple(range(100, 140)))
_OPTION = re.compile(r'^name: (.*)\ndefinition \w+ "(.*)" = (\w+)$', re.MULTILINE)
_NONE = re.compile(r'^\w+ "none of these" = (\w+)$', re.MULTILINE)


class Option(NamedTuple):
    name: str
    definition: str
    code: str


class Asked(NamedTuple):
    options: list[Option]
    none_code: str | None
    customer: str  # the last customer line


class Reply(NamedTuple):
    text: str
    probabilities: Mapping[
        str, float
    ] = {}  # of codes where one is written; the rest of the mass is elsewhere
    finish_reason: str = "stop"


Model = Callable[[Asked], Reply]


def says(code: str, reasoning: str = "Because.", sure: float = 0.9) -> Reply:
    return Reply(f"{reasoning}\nAnswer: {code}", {code: sure})


class FakeServer:
    """failing: statuses that the first requests get. knows_token_ids: False for servers that are not vLLM.

    counted: how many responses, from the first, say what they used; None: every one. codes: whose ids it is asked for.
    before: awaited as each request arrives. cut: how many chunks of a stream are sent before it breaks off.
    """

    def __init__(
        self,
        model: Model,
        *,
        failing: tuple[int, ...] = (),
        knows_token_ids: bool = True,
        counted: int | None = None,
        codes: Codes = CODES,
        before: Callable[[], Awaitable[None]] | None = None,
        cut: int | None = None,
    ) -> None:
        self.model, self.failing, self.knows_token_ids = model, list(failing), knows_token_ids
        self.counted, self.codes, self.before, self.cut = counted, codes, before, cut
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []

    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.bodies.append(body)
        if self.failing:
            return self.failing.pop(0), {"error": "overloaded"}
        reply = self.model(asked(body["messages"]))
        if body.get("continue_final_message"):
            code = max(reply.probabilities, key=lambda c: reply.probabilities[c], default="?")
            reply = Reply(f" {code}", reply.probabilities, "length")
        tokens = [self._token(piece, reply, body) for piece in re.findall(r" ?\w+|\W", reply.text)]
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": reply.text},
            "finish_reason": reply.finish_reason,
            "logprobs": {"content": tokens},
        }
        usage = {
            "prompt_tokens": 50,
            "completion_tokens": len(tokens),
            "prompt_tokens_details": {"cached_tokens": 32},
        }
        counts = self.counted is None or len(self.bodies) <= self.counted
        return 200, {"choices": [choice], "usage": usage if counts else None}

    def _token(self, piece: str, reply: Reply, body: dict[str, Any]) -> dict[str, Any]:
        at_code = piece.strip() in reply.probabilities
        wanted = body.get("logprob_token_ids") if self.knows_token_ids else None
        shown = (
            [self.codes.texts[self.codes.token_ids.index(i)] for i in wanted]
            if wanted
            else list(reply.probabilities)
        )
        probability = reply.probabilities.get if at_code else lambda _, default: default
        top = [_entry(f" {code}", probability(code, 1e-9)) for code in shown]
        own = _entry(piece, probability(piece.strip(), 0.5))
        return own | {"top_logprobs": [own, *top]}

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
        body = json.loads(content)
        assert scope["path"] == ("/v1/completions" if "prompt" in body else "/v1/chat/completions")
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        if self.before is not None:
            await self.before()
        status, answer = self.respond(body)
        if status == 200 and body.get("stream"):
            pieces, media_type = list(_pieces(answer))[: self.cut], b"text/event-stream"
        else:
            pieces, media_type = [json.dumps(answer).encode()], b"application/json"
        headers = [(b"content-type", media_type)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _pieces(answer: dict[str, Any]) -> Iterator[bytes]:
    """A token a chunk, as vLLM streams."""
    (choice,) = answer["choices"]
    tokens = choice["logprobs"]["content"]
    for number, token in enumerate(tokens):
        ended = choice["finish_reason"] if number == len(tokens) - 1 else None
        delta = {"content": token["token"]}
        yield _chunk([{"delta": delta, "logprobs": {"content": [token]}, "finish_reason": ended}])
    yield _chunk([], answer["usage"])
    yield b"data: [DONE]\n\n"


def _chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> bytes:
    return f"data: {json.dumps({'choices': choices, 'usage': usage})}\n\n".encode()


def asked(messages: list[dict[str, str]]) -> Asked:
    system, _, user = "\n\n".join(m["content"] for m in messages[:2]).partition("\n\n<conversation>\n")
    none = _NONE.search(system)
    customer = [line for line in user.split("\n") if line.startswith("customer: ")][-1].removeprefix(
        "customer: "
    )
    return Asked(
        [Option(*found) for found in _OPTION.findall(system)], none.group(1) if none else None, customer
    )


def predictor(server: FakeServer, **options: Any) -> VllmPredictor:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://model")
    given = {"codes": CODES, "sending": Sending(Retries(backoff_s=0.001))} | options
    return VllmPredictor(client, "fake", **given)


class Responder(Protocol):
    def respond(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]: ...


@contextmanager
def listening(server: Responder) -> Iterator[str]:
    """The server's address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = server.respond(json.loads(body))
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def _entry(token: str, probability: float) -> dict[str, Any]:
    return {"token": token, "logprob": math.log(probability), "bytes": list(token.encode())}
