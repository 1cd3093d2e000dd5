"""The one way in which a server is asked again: where it cannot be reached, is overloaded, or asks for time."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_result,
    stop_after_attempt,
)

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


async def sent(send: Callable[[], Awaitable[httpx.Response]], retries: Retries) -> httpx.Response:
    """The first response that does not ask for another attempt, else the last one.

    Raises: httpx.TransportError where the last attempt brought none.
    """

    async def attempt() -> httpx.Response:
        return await send()  # which need not be a coroutine function, by which tenacity knows what to await

    def wait_s(state: RetryCallState) -> float:
        assert state.outcome is not None
        response = None if state.outcome.failed else state.outcome.result()
        asked_s = None if response is None else retry_after_s(response.headers)
        return pause_s(retries, state.attempt_number, asked_s)

    def asks_for_another(response: httpx.Response) -> bool:
        return response.status_code in retries.statuses

    def last(state: RetryCallState) -> httpx.Response:
        assert state.outcome is not None
        return state.outcome.result()  # type: ignore[no-any-return]

    sending = AsyncRetrying(
        stop=stop_after_attempt(retries.attempts),
        wait=wait_s,
        retry=retry_if_exception_type(httpx.TransportError) | retry_if_result(asks_for_another),
        retry_error_callback=last,
    )
    return await sending(attempt)
