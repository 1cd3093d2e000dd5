"""A teacher on this machine: a real server that behaves as a test wants."""

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from evaluation.contract.render import ChatMessage
from training.config import EndpointTeacher
from training.teachers.endpoint import Replies, TeacherEndpoint, TeacherRequest

PROMPT: list[ChatMessage] = [{"role": "user", "content": "hello"}]
Behaviour = Callable[[int, dict[str, Any], dict[str, str]], tuple[int, dict[str, Any]]]


class Server:
    """behave: number of the request, its body and headers, to status and body."""

    def __init__(self) -> None:
        self.behave: Behaviour = lambda number, body, headers: (200, reply("ok"))
        self.requests = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                server.requests += 1
                headers = {k.lower(): v for k, v in self.headers.items()}
                status, content = server.behave(server.requests, body, headers)
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                if status == 429:
                    self.send_header("retry-after", "0")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def reply(text: str, finish: str = "stop") -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


def teacher(server: Server, **changes: Any) -> EndpointTeacher:
    return EndpointTeacher.model_validate(
        {"base_url": server.url, "model": "big", "concurrency": 1} | changes
    )


def ask(teacher: EndpointTeacher, prompts: list[list[ChatMessage]], samples: int) -> list[Replies]:
    return TeacherEndpoint(teacher).answers(prompts, TeacherRequest(samples, 0.8, 32))


def repeats_the_hint(body: dict[str, Any]) -> dict[str, Any]:
    """A right answer with a true quotation."""
    asked = body["messages"][-1]["content"]
    code = re.findall(r"The right answer is (\w+)", asked)[-1]
    said = re.findall(r"^customer: (.*)$", asked, re.MULTILINE)[-1]
    return reply(f'They say "{said}".\nAnswer: {code}')
