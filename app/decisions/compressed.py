"""Bodies that a client compressed: the System One wire's own does so by default, with zstd."""

import sys
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from app.auth.route import KeyedRoute
from app.decisions.question import invalid
from app.decisions.refusals import UnknownEncoding
from app.errors import TooLarge
from app.http.bodies import MAX_BODY_BYTES, BoundedRequest

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError


class _Unpacking(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handle(await _unpacked(request))

        return handled


class MaybeCompressedRoute(KeyedRoute, _Unpacking):
    """Who has no key is refused before anything is unpacked."""


class _Unpacked(BoundedRequest):
    content: bytes

    async def body(self) -> bytes:
        return self.content


async def _unpacked(request: Request) -> Request:
    """Raises: InvalidRequest, TooLarge, UnknownEncoding."""
    match request.headers.get("content-encoding", "identity").strip().lower():
        case "identity":
            return request
        case "zstd":
            made = _Unpacked(request.scope, request.receive)
            made.content = _of_zstd(await request.body())
            return made
        case other:
            raise UnknownEncoding(f"the body is packed as {other[:40]!r}; send it as it is, or as zstd")


def _of_zstd(packed: bytes) -> bytes:
    """Raises: InvalidRequest, TooLarge."""
    unpacking = ZstdDecompressor()
    try:
        content = unpacking.decompress(packed, max_length=MAX_BODY_BYTES + 1)
    except ZstdError as error:
        raise invalid("body", f"is not the zstd that it is said to be: {error}") from None
    if len(content) > MAX_BODY_BYTES:
        raise TooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
    if not unpacking.eof:
        raise invalid("body", "ends in the middle of its zstd frame; send it whole")
    return content
