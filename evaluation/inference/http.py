"""The one way in which a server is asked again: where it cannot be reached, is overloaded, or asks for time."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import httpx
from tenacity import AsyncRetrying, RetryCallState, Retrying

T = TypeVar("T")
# Of an error and the attempts so far: seconds until the next one; None: none is worth it. It is asked twice of each.
Pause = Callable[[BaseException, int], float | None]
RETRIED_STATUS = frozenset({408, 429, 502, 503, 504})


class Retries(NamedTuple):
    attempts: int = 5
    backoff_s: float = 0.25  # before the second attempt, doubled before each later one
    longest_s: float = 30.0  # of a wait, also of one that the server asks for
    statuses: frozenset[int] = RETRIED_STATUS


def pause_s(retries: Retries, failed: int, asked_s: float | None = None) -> float:
    """failed: attempts so far. asked_s: what the server asked for (`retry_after_s`)."""
    wait_s = retries.backoff_s * 2.0 ** min(failed - 1, 32) if asked_s is None else asked_s
    return min(wait_s, retries.longest_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """None where the server named no number of seconds."""
    text = headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None


def again(attempt: Callable[[], T], pause: Pause) -> T:
    """Raises: the error after which `pause` gives up."""
    return Retrying(**_by(pause))(attempt)


async def async_again(attempt: Callable[[], Awaitable[T]], pause: Pause) -> T:
    """As `again`, for a running event loop."""

    async def awaited() -> T:
        return (
            await attempt()
        )  # which need not be a coroutine function, by which tenacity knows what to await

    return await AsyncRetrying(**_by(pause))(awaited)


async def sent(send: Callable[[], Awaitable[httpx.Response]], retries: Retries) -> httpx.Response:
    """The first response that does not ask for another attempt, else the last one.

    Raises: httpx.TransportError where the last attempt brought none.
    """

    async def attempt() -> httpx.Response:
        response = await send()
        if response.status_code in retries.statuses:
            raise _AnotherAttempt(response)
        return response

    def pause(error: BaseException, failed: int) -> float | None:
        passing = isinstance(error, httpx.TransportError | _AnotherAttempt)
        if not passing or failed >= retries.attempts:
            return None
        asked_s = retry_after_s(error.response.headers) if isinstance(error, _AnotherAttempt) else None
        return pause_s(retries, failed, asked_s)

    try:
        return await async_again(attempt, pause)
    except _AnotherAttempt as last:
        return last.response


class _AnotherAttempt(Exception):
    def __init__(self, response: httpx.Response):
        super().__init__(response.status_code)
        self.response = response


def _by(pause: Pause) -> dict[str, Any]:
    def pause_after(state: RetryCallState) -> float | None:
        error = None if state.outcome is None else state.outcome.exception()
        return None if error is None else pause(error, state.attempt_number)

    return {"retry": lambda state: pause_after(state) is not None, "wait": pause_after, "reraise": True}
