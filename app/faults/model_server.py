"""A stand-in for vLLM in fault runs: its routes over a real socket, and a first category for an answer.

It forgets its adapters when it is killed, as vLLM does. Where a file `broken` lies in its folder, questions are
answered 500.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from app.serving.vllm import BASE_NAME
from evaluation.contract.render import ANSWER_MARK

BROKEN = "broken"
_CODE = re.compile(r'" = (\w+)$', re.MULTILINE)
_PIECES = re.compile(r" ?\w+|\W")
_SURE, _OTHER = math.log(0.9), math.log(0.5)


def run(port: int, folder: Path) -> None:
    """Until a signal comes."""
    server = ModelServer(folder)
    uvicorn.run(server, host="127.0.0.1", port=port, log_config=None, lifespan="off", access_log=False)


class ModelServer:
    def __init__(self, folder: Path):
        self.folder = folder
        self.adapters: dict[str, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = await Request(scope, receive).body()
        status, answer = self.respond(scope["path"], json.loads(asked or b"{}"))
        await JSONResponse(answer, status)(scope, receive, send)

    def respond(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        match path:
            case "/health":
                return 200, {}
            case "/v1/models":
                return 200, {"data": [{"id": name} for name in (BASE_NAME, *self.adapters)]}
            case "/v1/load_lora_adapter":
                return self._load(body["lora_name"], body["lora_path"])
            case "/v1/unload_lora_adapter":
                return (200, {}) if self.adapters.pop(body["lora_name"], None) else (404, {})
            case "/v1/chat/completions":
                return self._answer(body)
        return 404, {"error": f"no route {path}"}

    def _load(self, name: str, folder: str) -> tuple[int, Any]:
        if name in self.adapters or not Path(folder).is_dir():
            return 400, {"error": f"{name} is loaded already, or {folder} is no folder"}
        self.adapters[name] = folder
        return 200, {}

    def _answer(self, body: dict[str, Any]) -> tuple[int, Any]:
        if (self.folder / BROKEN).exists():
            return 500, {"error": "as the fault run wants"}
        if body["model"] not in (BASE_NAME, *self.adapters):
            return 404, {"error": f"The model {body['model']} does not exist."}
        code = _CODE.findall(body["messages"][0]["content"])[0]
        text = f" {code}" if body.get("continue_final_message") else f"Because.{ANSWER_MARK} {code}"
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
            "logprobs": {"content": [_token(piece, code) for piece in _PIECES.findall(text)]},
        }
        return 200, {"choices": [choice], "usage": {"prompt_tokens": 50, "completion_tokens": 5}}


def _token(piece: str, code: str) -> dict[str, Any]:
    own: dict[str, Any] = {"token": piece, "bytes": list(piece.encode())}
    own["logprob"] = _SURE if piece.strip() == code else _OTHER
    return own | {"top_logprobs": [own]}
