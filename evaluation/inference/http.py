"""The one way in which a server is asked again: where it cannot be reached, is overloaded, or asks for time."""

import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple, TypeVar

import httpx
from tenacity import AsyncRetrying, RetryCallState, Retrying

T = TypeVar("T")
# Of an error and the attempts so far: seconds until the next one; None: none is worth it. It is asked twice of each.
Pause = Callable[[BaseException, int], float | None]
RETRIED_STATUS = frozenset({408, 429, 502, 503, 504})
_BUSY_S: Final = 5.0
_SECONDS: Final = re.compile(r"[0-9]+(\.[0-9]*)?")


class Retries(NamedTuple):
    attempts: int = 5
    backoff_s: float = 0.25  # before the second attempt, doubled before each later one
    longest_s: float = 30.0  # of a wait, also of one that the server asks for
    statuses: frozenset[int] = RETRIED_STATUS


class Patience:
    """Of all who ask one server in a run: where it is busy they wait, however often it refuses them, until it has
    answered nobody for `longest_s`. While it answers some, the turn of the others comes; once its quota is used up, all
    give up together."""

    def __init__(self, longest_s: float = 300.0):
        self._longest_s = longest_s
        self.answered()

    def answered(self) -> None:
        self._answered_s = time.monotonic()

    @property
    def is_over(self) -> bool:
        return time.monotonic() - self._answered_s > self._longest_s


def pause_s(retries: Retries, failed: int, asked_s: float | None = None) -> float:
    """failed: attempts so far. asked_s: what the server asked for (`retry_after_s`)."""
    wait_s = retries.backoff_s * 2.0 ** min(failed - 1, 32) if asked_s is None else asked_s
    return min(wait_s, retries.longest_s)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """None where the server named neither a number of seconds nor a date."""
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return float(text) if math.isfinite(float(text)) else None
    until = _date(text)
    # The server's own clock, where it shows it: this machine's may be minutes away.
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return None if until is None else max(0.0, (until - now).total_seconds())


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


async def sent(
    send: Callable[[], Awaitable[httpx.Response]], retries: Retries, patience: Patience | None = None
) -> httpx.Response:
    """The first response that does not ask for another attempt, else the last one.

    patience: with a server that is busy, whose refusals are then no attempts that count.
    Raises: httpx.TransportError where the last attempt brought none.
    """
    waited = 0

    async def attempt() -> httpx.Response:
        nonlocal waited
        response = await send()
        if response.status_code in retries.statuses:
            waits = not patience.is_over if patience is not None and _is_busy(response) else None
            waited += waits is True
            raise _AnotherAttempt(response, waits)
        if patience is not None:
            patience.answered()
        return response

    def pause(error: BaseException, failed: int) -> float | None:
        if not isinstance(error, httpx.TransportError | _AnotherAttempt):
            return None
        another = error if isinstance(error, _AnotherAttempt) else None
        waits = another.waits if another else None
        goes_on = failed - waited < retries.attempts if waits is None else waits
        if not goes_on:
            return None
        asked_s = retry_after_s(another.response.headers) if another else None
        return (_busy_pause_s if waits else pause_s)(retries, failed, asked_s)

    try:
        return await async_again(attempt, pause)
    except _AnotherAttempt as last:
        return last.response


class _AnotherAttempt(Exception):
    """waits: for a server that is busy, or no longer; None: it counts. Decided here, as a pause is asked for twice."""

    def __init__(self, response: httpx.Response, waits: bool | None):
        super().__init__(response.status_code)
        self.response, self.waits = response, waits


def _busy_pause_s(retries: Retries, failed: int, asked_s: float | None) -> float:
    """A server that names no time answers others meanwhile, so its next free place is not far; one that says "at once"
    and refuses again is not asked without a pause."""
    if asked_s is None:
        return pause_s(retries._replace(longest_s=min(retries.longest_s, _BUSY_S)), failed)
    return pause_s(retries, failed, max(asked_s, retries.backoff_s))


def _is_busy(response: httpx.Response) -> bool:
    """503 alone also says that a server is broken."""
    asks = response.status_code == 503 and retry_after_s(response.headers) is not None
    return response.status_code == 429 or asks


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _by(pause: Pause) -> dict[str, Any]:
    def pause_after(state: RetryCallState) -> float | None:
        error = None if state.outcome is None else state.outcome.exception()
        return None if error is None else pause(error, state.attempt_number)

    return {"retry": lambda state: pause_after(state) is not None, "wait": pause_after, "reraise": True}
