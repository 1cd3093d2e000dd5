"""A stand-in for S3 in fault runs: as much of it as its client asks for here, over a real socket, kept in a folder.

What lies in the file `trouble` of that folder says how it is unwell: `slow`, `losing` (what is put there is answered as
if it were kept), or the status and the code with which it refuses everything.
"""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote
from xml.sax.saxutils import escape

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

TROUBLE = "trouble"
SLOW, LOSING = "slow", "losing"
TROUBLES = {"slow": SLOW, "refusing": "503 SlowDown", "losing a write": LOSING}
BUCKET = "steerwise"
_SLOW_S = 3.0
_XML, _BYTES = "application/xml", "application/octet-stream"
_ETAG = '"1"'


def run(port: int, folder: Path) -> None:
    """Until a signal comes."""
    store = ObjectStore(folder)
    uvicorn.run(store, host="127.0.0.1", port=port, log_config=None, lifespan="off", access_log=False)


class ObjectStore:
    """Keys are files named after their hash, so that no key can lead out of the folder; the key stands beside."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "objects").mkdir(parents=True, exist_ok=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        content = await request.body()
        trouble = self._trouble()
        if trouble == SLOW:
            await asyncio.sleep(_SLOW_S)
        await self._answer(request, content, trouble)(scope, receive, send)

    def _answer(self, request: Request, content: bytes, trouble: str) -> Response:
        method, key = request.method, unquote(request.scope["path"]).strip("/")
        if trouble not in ("", SLOW, LOSING):
            status, _, code = trouble.partition(" ")
            return _xml(int(status), _error(code))
        if "/" not in key:
            return _xml(200, self._listed(key, request.query_params.get("prefix", "")))
        if method == "PUT":
            if trouble != LOSING:
                self._keep(key, content)
            return _xml(200, b"", {"etag": _ETAG})
        if method == "DELETE":
            self._file(key).unlink(missing_ok=True)
            return _xml(204, b"")
        return self._read(key, request.headers.get("range", ""))

    def _trouble(self) -> str:
        path = self.folder / TROUBLE
        return path.read_text() if path.exists() else ""

    def _file(self, key: str) -> Path:
        return self.folder / "objects" / hashlib.sha256(key.encode()).hexdigest()

    def _keep(self, key: str, content: bytes) -> None:
        place = self._file(key)
        beside = place.with_suffix(".new")
        beside.write_bytes(content)
        place.with_suffix(".key").write_text(key)
        beside.replace(place)

    def _listed(self, bucket: str, prefix: str) -> bytes:
        found = [
            f"<Contents><Key>{escape(key.partition('/')[2])}</Key><LastModified>{_when(told.st_mtime)}</LastModified>"
            f"<Size>{told.st_size}</Size></Contents>"
            for key, told in self._keys()
            if key.startswith(f"{bucket}/{prefix}")
        ]
        told = f"<KeyCount>{len(found)}</KeyCount>{''.join(found)}"
        return f'<?xml version="1.0"?><ListBucketResult>{told}</ListBucketResult>'.encode()

    def kept(self) -> list[str]:
        """Keys, each with its bucket."""
        return [key for key, _ in self._keys()]

    def _keys(self) -> Iterator[tuple[str, os.stat_result]]:
        for named in (self.folder / "objects").glob("*.key"):
            place = named.with_suffix("")
            if place.exists():
                yield named.read_text(), place.stat()

    def _read(self, key: str, asked: str) -> Response:
        """A question by HEAD is answered as one by GET; the server leaves the content away."""
        place = self._file(key)
        if not place.exists():
            return _xml(404, _error("NoSuchKey"))
        content = place.read_bytes()
        told = {"etag": _ETAG, "last-modified": formatdate(place.stat().st_mtime, usegmt=True)}
        if asked and content:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last or len(content) - 1), len(content) - 1)
            told["content-range"] = f"bytes {first}-{end}/{len(content)}"
            return Response(content[int(first) : end + 1], 206, told, _BYTES)
        return Response(content, 200, told, _BYTES)


def _xml(status: int, content: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(content, status, headers, _XML)


def _when(mtime: float) -> str:
    return datetime.fromtimestamp(mtime, UTC).isoformat()


def _error(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>a fault run</Message></Error>'.encode()
