"""One installation over HTTP, with one key."""

import re
import uuid
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import httpx
import typer

from app.cli.client.profile import Target
from app.cli.client.refusal import ApiAway, ApiRefused, checked
from app.errors import InputError
from evaluation.atomic_files import whole
from evaluation.inference import http

T = TypeVar("T")
Json: TypeAlias = dict[str, Any]
PAGE = 200  # the most that the API gives at once
_PATH = re.compile(r"(?:/[A-Za-z0-9_-]+)+(?:\.html)?")
_TIMEOUT = httpx.Timeout(30, read=300)  # a model may think for a while
RETRIES = http.Retries(attempts=5, backoff_s=0.5)
_SCHEMES = ("http://", "https://", "unix://")
_HERE = ("all://localhost", "all://127.0.0.1", "all://[::1]")  # never asked for through a proxy


class Api:
    """Every call raises ApiAway or ApiRefused. Use it as a context."""

    def __init__(self, target: Target):
        self.target = target
        headers = {"User-Agent": "steerwise"}
        if target.api_key is not None:
            headers["Authorization"] = f"Bearer {_header(target.api_key, 'the API key')}"
        if not target.url.startswith(_SCHEMES):
            raise InputError(f"{target.url!r} is no URL of an API; write http://…, https://… or unix:///path")
        socket = target.url.removeprefix("unix://") if target.url.startswith("unix://") else None
        try:
            self.http = httpx.Client(
                base_url="http://steerwise" if socket else target.url,
                transport=httpx.HTTPTransport(uds=socket) if socket else None,
                headers=headers,
                timeout=_TIMEOUT,
                mounts=dict.fromkeys(_HERE),
            )
        except httpx.InvalidURL as error:
            raise InputError(f"{target.url!r} is no URL: {error}") from None

    def __enter__(self) -> "Api":
        if self.target.tenant is not None:
            try:
                tenant = self.find("/v1/tenants", self.target.tenant, "tenant")
            except BaseException:
                self.http.close()
                raise
            self.http.headers["X-Tenant"] = tenant
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """options: as httpx takes them. Raises: InputError where a part of the path leads elsewhere."""
        if _PATH.fullmatch(path) is None:
            raise InputError(f"{path!r} is no path of the API: an id or a name in it cannot be one")
        try:
            return checked(self.http.request(method, path, **options))
        except httpx.TransportError as error:
            raise ApiAway(self.target.url, error) from error

    def get(self, path: str, **query: Any) -> Json:
        asked = {name: value for name, value in query.items() if value is not None}
        return dict(self.send("GET", path, params=asked).json())

    def download(self, file: Path, path: str, **query: Any) -> int:
        """Into a file, which is there whole or not at all. Returns its size in bytes."""
        asked = {name: value for name, value in query.items() if value is not None}
        try:
            with self.http.stream("GET", path, params=asked) as response, whole(file) as sink:
                for block in checked(response).iter_bytes():
                    sink.write(block)
                return sink.tell()
        except httpx.TransportError as error:
            raise ApiAway(self.target.url, error) from error

    def post(self, path: str, body: Json | None = None, **headers: str) -> Json:
        return dict(self.send("POST", path, json=body, headers=headers).json())

    def post_once(self, path: str, body: Json | None) -> Json:
        """Sent again where no answer came; the API then does it once all the same."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        return dict(again(lambda: self.send("POST", path, json=body, headers=key), passing).json())

    def pages(self, path: str, limit: int | None = None, **query: Any) -> list[Json]:
        """limit: how many, the newest; None: all of them."""
        return list(islice(self._each(path, min(limit or PAGE, PAGE), query), limit))

    def _each(self, path: str, limit: int, query: Json) -> Iterator[Json]:
        cursor = None
        while True:
            page = self.get(path, **query, limit=limit, cursor=cursor)
            yield from page["items"]
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def find(self, path: str, named: str, what: str) -> str:
        """The id of the one in the list at `path` that has this id or this name. Raises: InputError."""
        try:
            return str(uuid.UUID(named))
        except ValueError:
            pass
        found = [item["id"] for item in self._each(path, PAGE, {}) if item["name"] == named]
        if len(found) == 1:
            return str(found[0])
        if not found:
            raise InputError(
                f"there is no {what} called {named!r}; `steerwise {what}s list` shows those there are"
            )
        raise InputError(f"{len(found)} {what}s are called {named!r}; name one by its id", found)


def identity(text: str) -> str:
    """For typer: an argument that goes into a path."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no id; an id looks like {uuid.UUID(int=0)}") from None


def passing(error: BaseException) -> bool:
    """Whether the same request may well succeed in a moment."""
    if isinstance(error, ApiAway):
        return not isinstance(error.__cause__, httpx.ConnectError)
    return isinstance(error, ApiRefused) and (error.status == 503 or error.code == "request_in_flight")


def again(
    work: Callable[[], T], worth_it: Callable[[BaseException], bool], attempts: int = RETRIES.attempts
) -> T:
    """worth_it: whether an error may be gone at the next attempt. Raises: the last attempt's error."""

    def pause(error: BaseException, tried: int) -> float | None:
        return pause_s(error, tried) if tried < attempts and worth_it(error) else None

    return http.again(work, pause)


def pause_s(error: BaseException, tried: int) -> float:
    return http.pause_s(RETRIES, tried, error.retry_after_s if isinstance(error, ApiRefused) else None)


def _header(text: str, what: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text.strip():
        raise InputError(f"{what} holds a character that none of ours has")
    return text.strip()
