"""What our code asks of a vLLM, answered on a real Unix socket by plain functions in the place of models."""

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from app.serving.fetching import STORED
from app.serving.vllm import BASE_NAME
from tests.evaluation.fake_server import Asked, FakeServer, Model, Reply, says

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class FakeVllm:
    """models: by name; an adapter that is not listed is as good as `base`. adapters: the folders of those loaded.

    refusing: what loading an adapter is answered with, where it is not to work.
    """

    def __init__(self, models: Mapping[str, Model]):
        self.models = dict(models)
        self.adapters: dict[str, str] = {}
        self.asked: list[str] = []
        self.salts: set[str | None] = set()  # of the questions' prefix caches
        self.breaking: set[str] = set()  # models whose every answer is 500
        self.killing: set[str] = set()  # those that take the engine with them
        self.seen: list[str] = []  # paths of every request, answered or not
        self.refusing: str | None = None
        self.status: int | None = None  # of every answer, where the server is not well

    def respond(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.seen.append(path)
        if self.status is not None:
            return self.status, {"error": "not now"}
        match path:
            case "/health":
                return 200, {}
            case "/v1/models":
                return 200, {"data": [{"id": name} for name in (BASE_NAME, *self.adapters)]}
            case "/v1/load_lora_adapter":
                return self._load(body["lora_name"], body["lora_path"])
            case "/v1/unload_lora_adapter":
                return (200, {}) if self.adapters.pop(body["lora_name"], None) else (404, {})
        return self._answer(body)

    def _load(self, name: str, folder: str) -> tuple[int, Any]:
        there = folder.startswith(STORED) or Path(folder).is_dir()
        if self.refusing is not None or name in self.adapters or not there:
            return 400, {"error": self.refusing or "has already been loaded"}
        self.adapters[name] = folder
        return 200, {}

    def _answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["model"]
        if name not in (BASE_NAME, *self.adapters):
            return 404, {"error": f"The model {name} does not exist."}
        self.asked.append(name)
        self.salts.add(body.get("cache_salt"))
        if name in self.killing:
            self.status = 500
        if name in self.killing | self.breaking:
            return 500, {"error": "EngineCore encountered an issue."}
        model = self.models.get(name, self.models[BASE_NAME])
        return FakeServer(model, knows_token_ids=False).respond(body)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        content, more = b"", True
        while more:
            message = await receive()
            content += message.get("body", b"")
            more = message.get("more_body", False)
        status, answer = self.respond(scope["path"], json.loads(content or b"{}"))
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


@contextmanager
def socket_path() -> Iterator[Path]:
    """Short enough for a Unix socket; nobody listens there yet."""
    folder = Path(tempfile.mkdtemp(prefix="sw-"))
    try:
        yield folder / "vllm.sock"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def listening(vllm: FakeVllm, path: Path) -> Iterator[str]:
    """The server's URL, as STEERWISE_VLLM_URLS names it."""
    path.unlink(missing_ok=True)
    server = uvicorn.Server(
        uvicorn.Config(vllm, uds=str(path), log_level="error", lifespan="off", access_log=False)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield f"unix://{path}"
    finally:
        server.should_exit = True
        thread.join()


def first_code(seen: Asked) -> Reply:
    """Always the first category."""
    return says(seen.options[0].code)


def mute(_seen: Asked) -> Reply:
    """Never an answer, not even when it is forced to one."""
    return Reply("I would rather not say.")
