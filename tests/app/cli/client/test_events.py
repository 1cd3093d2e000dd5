"""Server-sent events, read whole and each once, although connections break."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from app.cli.client.api import Api
from app.cli.client.events import Event, follow, parse
from app.cli.client.profile import Target
from tests.servers.s3 import serving


def test_events_are_read_as_the_standard_says() -> None:
    lines = [
        "id: 1",
        "event: metric",
        "data: {",
        "data:  }",
        "",
        ": still there",
        "data: bare",
        "",
        "event: none",
        "",
    ]
    assert list(parse(lines)) == [Event("metric", "{\n }", "1"), None, Event("message", "bare", "1")]


def test_an_event_that_is_cut_off_is_left_out() -> None:
    assert list(parse(["id: 1", "data: half"])) == []


class Breaking:
    """Tells of five events and the end, two at a time: then it breaks off, or answers 503, or just ends."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []

    def api(self) -> FastAPI:
        api = FastAPI()

        @api.get("/v1/runs/one/events")
        async def events(request: Request) -> Any:
            self.asked.append(request.headers.get("last-event-id"))
            if len(self.asked) == 2:
                return JSONResponse({"detail": "away", "code": "unavailable"}, 503, {"Retry-After": "0"})
            after = int(self.asked[-1] or 0)
            return StreamingResponse(
                self._some(after, breaks=len(self.asked) == 1), media_type="text/event-stream"
            )

        return api

    async def _some(self, after: int, *, breaks: bool) -> AsyncIterator[str]:
        yield ": here\n\n"
        for number in range(after + 1, min(after + 2, 5) + 1):
            yield f"id: {number}\nevent: metric\ndata: {number}\n\n"
        if breaks:
            raise ConnectionError("cut")
        if after >= 3:
            yield 'event: end\ndata: {"state": "succeeded"}\n\n'


def test_a_broken_stream_goes_on_after_the_last_event() -> None:
    breaking = Breaking()
    with serving(breaking.api()) as url, Api(Target(url, None, None)) as api:
        found = [event for event in follow(api, "/v1/runs/one/events") if event is not None]
    assert [event.data for event in found[:-1]] == ["1", "2", "3", "4", "5"]
    assert found[-1].kind == "end"
    assert breaking.asked == [None, "2", "2", "4"]
