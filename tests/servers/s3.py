"""As much of S3 as its real client asks for when files are put, read, looked for and removed."""

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

_LIST = '<?xml version="1.0"?><ListBucketResult><KeyCount>{count}</KeyCount>{found}</ListBucketResult>'
_ERROR = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>as the test wants</Message></Error>'
_NO_KEY = '<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>'


class Trouble:
    """What every request is answered with, where the store is not well. losing: what is put there is not kept."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.code = "InternalError"
        self.losing = False


def fake_s3(objects: dict[str, bytes], trouble: Trouble | None = None) -> FastAPI:
    """objects: `bucket/key` to content, the fake's whole memory."""
    api = FastAPI()
    trouble = trouble or Trouble()

    @api.middleware("http")
    async def unwell(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if trouble.status is None:
            return await call_next(request)
        body = "" if request.method == "HEAD" else _ERROR.format(code=trouble.code)
        return Response(body, trouble.status, media_type="application/xml")

    @api.head("/{bucket}")
    def known(bucket: str) -> None:
        """Every bucket is there."""

    @api.get("/{bucket}")
    def find(bucket: str, prefix: str = "") -> Response:
        found = [key for key in objects if key.startswith(f"{bucket}/{prefix}")]
        entries = "".join(
            f"<Contents><Key>{key.partition('/')[2]}</Key><Size>{len(objects[key])}</Size>"
            "<LastModified>2026-11-01T00:00:00.000Z</LastModified></Contents>"
            for key in found
        )
        return Response(_LIST.format(count=len(found), found=entries), media_type="application/xml")

    @api.api_route("/{place:path}", methods=["GET", "HEAD"])
    def read(place: str, request: Request) -> Response:
        if place not in objects:
            return Response(_NO_KEY, 404, media_type="application/xml")
        content = objects[place]
        headers = {"ETag": '"1"', "Last-Modified": "Sun, 01 Nov 2026 00:00:00 GMT"}
        if asked := request.headers.get("range"):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
            return Response(content[int(first) : end + 1], 206, headers)
        return Response(content, 200, headers)

    @api.put("/{place:path}")
    async def write(place: str, request: Request) -> Response:
        objects[place] = b"" if trouble.losing else await request.body()
        return Response(headers={"ETag": '"1"'})

    @api.delete("/{place:path}", status_code=204)
    def remove(place: str) -> None:
        objects.pop(place, None)

    return api


@contextmanager
def serving(api: Any) -> Iterator[str]:
    """Its URL, on a free port of the loopback."""
    server = uvicorn.Server(uvicorn.Config(api, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
