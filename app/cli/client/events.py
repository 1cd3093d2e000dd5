"""Server-sent events, read over connections that may break."""

import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import httpx

from app.cli.client.api import Api, pause_s
from app.cli.client.refusal import ApiAway, ApiRefused, checked
from evaluation.inference import event_stream

END = "end"
SILENCE_S = 60.0  # the API sends a comment more often than that
GIVE_UP_S = 300.0  # without any answer


class Event(NamedTuple):
    """kind: `message` where the server named none. id: None before the first one."""

    kind: str
    data: str
    id: str | None


def parse(lines: Iterable[str]) -> Iterator[Event | None]:
    """None for a comment, by which the server says that it is there. What is cut off at the end is left out."""
    kind, data, last = "message", list[str](), None
    for line in lines:
        if line.startswith(":"):
            yield None
        elif not line:
            if data:
                yield Event(kind, "\n".join(data), last)
            kind, data = "message", []
        else:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif name == "id":
                last = value


def follow(api: Api, path: str) -> Iterator[Event | None]:
    """All events up to one of the kind `end`, each once. Raises: ApiRefused, ApiAway after five minutes of silence."""
    last: str | None = None
    heard_at, tried = time.monotonic(), 0
    while True:
        error: ApiAway | ApiRefused
        try:
            for event in _connected(api, path, last):
                heard_at, tried = time.monotonic(), 0
                yield event
                if event is not None:
                    last = event.id or last
                    if event.kind == END:
                        return
            error = ApiAway(api.target.url, ConnectionError("the events broke off"))
        except ApiAway as away:
            error = away
        except ApiRefused as refused:
            if refused.status < 500:
                raise
            error = refused
        if time.monotonic() - heard_at > GIVE_UP_S:
            raise error
        tried += 1
        time.sleep(pause_s(error, tried))


def once(api: Api, path: str, body: object) -> Iterator[Event]:
    """The events that answer a POST."""
    headers = {"Accept": "text/event-stream"}
    try:
        with api.http.stream("POST", path, json=body, headers=headers) as response:
            yield from filter(None, parse(event_stream.lines(checked(response).iter_bytes())))
    except httpx.TransportError as error:
        raise ApiAway(api.target.url, error) from error


def _connected(api: Api, path: str, last: str | None) -> Iterator[Event | None]:
    headers = {"Accept": "text/event-stream"} | ({} if last is None else {"Last-Event-ID": last})
    timeout = httpx.Timeout(10, read=SILENCE_S)
    try:
        with api.http.stream("GET", path, headers=headers, timeout=timeout) as response:
            yield from parse(event_stream.lines(checked(response).iter_bytes()))
    except httpx.TransportError as error:
        raise ApiAway(api.target.url, error) from error
