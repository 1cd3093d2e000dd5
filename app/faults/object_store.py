"""A stand-in for S3 in fault runs: as much of it as its client asks for here, over a real socket, kept in a folder.

What lies in the file `trouble` of that folder says how it is unwell: `refusing`, `slow`, or `losing` (what is put there
is answered as if it were kept).
"""

import asyncio
import hashlib
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

import uvicorn

from app.faults.model_server import Receive, Send, body_of, reply

TROUBLE = "trouble"
REFUSING, SLOW, LOSING = "refusing", "slow", "losing"
BUCKET = "steerwise"
_SLOW_S = 3.0
_XML = b"application/xml"
_WHEN = "Sun, 01 Nov 2026 00:00:00 GMT"


def run(port: int, folder: Path) -> None:
    """Until a signal comes."""
    store = ObjectStore(folder)
    uvicorn.run(store, host="127.0.0.1", port=port, log_config=None, lifespan="off", access_log=False)


class ObjectStore:
    """Keys are files named after their hash, so that no key can lead out of the folder; the key stands beside."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "objects").mkdir(parents=True, exist_ok=True)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        content = await body_of(receive)
        trouble = self._trouble()
        if trouble == SLOW:
            await asyncio.sleep(_SLOW_S)
        method, key = scope["method"], unquote(scope["path"]).strip("/")
        if trouble == REFUSING:
            await reply(send, 503, b"" if method == "HEAD" else _error("SlowDown"), _XML)
        elif "/" not in key:
            query = parse_qs(scope["query_string"].decode())
            listed = b"" if method == "HEAD" else self._listed(key, query.get("prefix", [""])[0])
            await reply(send, 200, listed, _XML)
        elif method == "PUT":
            if trouble != LOSING:
                self._keep(key, content)
            await reply(send, 200, b"", _XML, etag='"1"')
        elif method == "DELETE":
            self._file(key).unlink(missing_ok=True)
            await reply(send, 204, b"", _XML)
        else:
            await self._read(send, method, key, dict(scope["headers"]).get(b"range", b"").decode())

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
            f"<Contents><Key>{escape(key.partition('/')[2])}</Key><Size>{size}</Size></Contents>"
            for key, size in self._keys()
            if key.startswith(f"{bucket}/{prefix}")
        ]
        told = f"<KeyCount>{len(found)}</KeyCount>{''.join(found)}"
        return f'<?xml version="1.0"?><ListBucketResult>{told}</ListBucketResult>'.encode()

    def _keys(self) -> Iterator[tuple[str, int]]:
        for named in (self.folder / "objects").glob("*.key"):
            place = named.with_suffix("")
            if place.exists():
                yield named.read_text(), place.stat().st_size

    async def _read(self, send: Send, method: str, key: str, asked: str) -> None:
        place = self._file(key)
        if not place.exists():
            await reply(send, 404, b"" if method == "HEAD" else _error("NoSuchKey"), _XML)
            return
        content = place.read_bytes()
        told = {"etag": '"1"', "last_modified": _WHEN}
        kind = b"application/octet-stream"
        if asked and content:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last or len(content) - 1), len(content) - 1)
            told["content_range"] = f"bytes {first}-{end}/{len(content)}"
            await reply(send, 206, content[int(first) : end + 1], kind, **told)
        elif method == "HEAD":
            await reply(send, 200, b"", kind, **told, content_length=str(len(content)))
        else:
            await reply(send, 200, content, kind, **told)


def _error(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>a fault run</Message></Error>'.encode()
