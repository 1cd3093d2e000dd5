"""A folder for `steerwise serve`, where what it starts as vLLM only answers that it is well."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

MODEL_SERVER = """
import argparse, http.server, json, socketserver

parser = argparse.ArgumentParser()
parser.add_argument("--uds")
place = parser.parse_known_args()[0].uds

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"data": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return "socket"

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

Server(place, Answers).serve_forever()
"""


class Place(NamedTuple):
    """path: of modules, with a package `vllm` before the real one. sockets: short enough for their names."""

    home: Path
    path: Path
    sockets: Path


@contextmanager
def stand_in(folder: Path) -> Iterator[Place]:
    package = folder / "path" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for one in (package, package.parent, package.parent.parent):
        (one / "__init__.py").touch()
    (package / "api_server.py").write_text(MODEL_SERVER)
    with TemporaryDirectory(prefix="sw-") as sockets:
        yield Place(folder / "home", folder / "path", Path(sockets))
