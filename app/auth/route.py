"""A route that knows who may come in before it reads what they bring.

FastAPI reads and parses a body first and asks the dependencies then, so that whoever has no key could make us parse
whatever they like. Here the key is checked from the header, the length of the body is bounded by what the operation
takes, and what lasts is asked again for as long as it lasts.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response, StreamingResponse

from app.auth import standing
from app.auth.access import access_of
from app.auth.dependencies import admit
from app.http.bodies import BoundedRequest, check_length, max_bytes_of


class KeyedRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Raises: TypeError where the operation does not declare who may come in."""
        self.access = access_of(self.dependant)
        handle, access = super().get_route_handler(), self.access
        max_bytes = max_bytes_of(self.body_field)

        async def keyed(request: Request) -> Response:
            if access is None:
                return await handle(BoundedRequest(request.scope, request.receive))
            lasting = standing.of(request, await admit(request, access))
            if max_bytes is not None:
                check_length(request, max_bytes)
            response = await handle(BoundedRequest(request.scope, lasting.watched(request.receive)))
            if isinstance(response, StreamingResponse):
                response.body_iterator = lasting.pieces(response.body_iterator, response.media_type)
            return response

        return keyed


def keyed_router(prefix: str = "", *, tags: list[str]) -> APIRouter:
    """Of a slice's operations."""
    return APIRouter(prefix=prefix, tags=list(tags), route_class=KeyedRoute)
