"""Asking a server again: when, how often, and how long after."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import httpx
import pytest

from evaluation.inference.http import Patience, Retries, pause_s, retry_after_s, sent

LATER = "Wed, 21 Oct 2026 07:28:00 GMT"
QUICK = Retries(attempts=4, backoff_s=0.001)


def asked(
    *answers: int | Exception | httpx.Response, retries: Retries = QUICK, patience: Patience | None = None
) -> tuple[httpx.Response, int]:
    """The response, and how many requests it took; the last answer is given from then on."""
    count = 0

    async def send() -> httpx.Response:
        nonlocal count
        answer = answers[min(count, len(answers) - 1)]
        count += 1
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer) if isinstance(answer, int) else answer

    return asyncio.run(sent(send, retries, patience)), count


def test_what_passes_is_tried_again_and_what_does_not_is_given_back_at_once() -> None:
    for status in (408, 429, 502, 503, 504):
        response, count = asked(status, httpx.ConnectError("no"), 200)
        assert (response.status_code, count) == (200, 3)
    for status in (200, 400, 404, 500):
        response, count = asked(status)
        assert (response.status_code, count) == (status, 1)
    assert asked(500, 200, retries=QUICK._replace(statuses=frozenset({500})))[1] == 2


def test_the_last_attempt_decides_whether_a_response_or_an_error_comes_back() -> None:
    response, count = asked(httpx.ConnectError("no"), 503)
    assert (response.status_code, count) == (503, QUICK.attempts)
    with pytest.raises(httpx.ReadTimeout):
        asked(503, httpx.ReadTimeout("slow"))


def test_an_error_that_is_no_trouble_of_the_network_comes_out_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        asked(ZeroDivisionError(), 200)


def test_the_waits_double_up_to_the_longest_and_a_server_may_ask_for_its_own() -> None:
    retries = Retries(attempts=9, backoff_s=0.5, longest_s=3.0)
    assert [pause_s(retries, failed) for failed in (1, 2, 3, 4, 5000)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert [pause_s(retries, 1, asked_s) for asked_s in (0.0, 2.0, 3600.0)] == [0.0, 2.0, 3.0]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that would have been slept."""
    found: list[float] = []
    sleep = asyncio.sleep

    async def counted(wait_s: float) -> None:
        found.append(wait_s)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", counted)
    return found


def test_a_server_gets_the_time_that_it_asks_for(waits: list[float]) -> None:
    busy = httpx.Response(429, headers={"Retry-After": "7"})
    assert asked(busy, busy, 200)[1] == 3
    assert waits == [7.0, 7.0]


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({"retry-after": "5"}, 5.0),
        ({}, None),
        ({"retry-after": "²"}, None),  # a digit to Python, and no number
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": " 7 "}, 7.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": LATER, "date": "Wed, 21 Oct 2026 07:27:15 GMT"}, 45.0),
        ({"retry-after": LATER, "date": "Wed, 21 Oct 2026 07:29:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 -0000"}, 0.0),  # long ago, by this machine's clock
        ({"retry-after": "Wed, 41 Oct 2026 07:28:00 GMT"}, None),
    ],
)
def test_a_number_of_seconds_or_a_date_says_when_to_come_again(
    headers: Mapping[str, str], wanted: float | None
) -> None:
    assert retry_after_s(headers) == wanted


# ------------------------------------------------------------------------------------------------ a server that is busy

SOON = Retries(attempts=2, backoff_s=0.001, longest_s=0.01)


def test_refusals_of_a_server_that_is_busy_are_no_attempts_for_whoever_has_patience() -> None:
    busy = httpx.Response(503, headers={"Retry-After": "1"})
    refused = [429, busy] * 5
    assert asked(*refused, 200, retries=SOON)[1] == 2
    response, count = asked(*refused, httpx.ConnectError("no"), 429, 200, retries=SOON, patience=Patience())
    assert (response.status_code, count) == (200, 13)
    assert asked(503, retries=SOON, patience=Patience())[1] == 2, "which may be broken for good"
    assert asked(429, retries=SOON, patience=Patience(-1))[1] == 1


@pytest.mark.parametrize(
    ("asks", "wanted"),
    [
        ({}, [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]),
        ({"Retry-After": "0"}, [0.25] * 7),
        ({"Retry-After": "3600"}, [30.0] * 7),
    ],
)
def test_a_server_that_is_busy_is_asked_again_in_time_and_never_without_a_pause(
    asks: Mapping[str, str], wanted: list[float], waits: list[float]
) -> None:
    refusals = [httpx.Response(429, headers=asks)] * len(wanted)
    assert asked(*refusals, 200, retries=Retries(attempts=2), patience=Patience())[1] == len(wanted) + 1
    assert waits == wanted


async def _asked_by_many(
    questions: int, send: Callable[[], Awaitable[httpx.Response]], patience: Patience
) -> list[int]:
    """By 32 at once; the statuses."""
    waiting, found = iter(range(questions)), list[int]()

    async def work() -> None:
        for _ in waiting:
            found.append((await sent(send, SOON, patience)).status_code)

    await asyncio.gather(*(work() for _ in range(32)))
    return found


def test_many_who_ask_a_server_with_few_places_are_all_answered() -> None:
    places = 2

    async def send() -> httpx.Response:
        nonlocal places
        if not places:
            return httpx.Response(429)
        places -= 1
        await asyncio.sleep(0.002)
        places += 1
        return httpx.Response(200)

    assert asyncio.run(_asked_by_many(300, send, Patience(0.5))) == [200] * 300


def test_when_a_quota_is_used_up_nobody_waits_for_long_and_the_rest_do_not_wait_at_all() -> None:
    left, late = 40, 0

    async def send() -> httpx.Response:
        nonlocal left, late
        await asyncio.sleep(0)
        left -= 1
        late += left < 0
        return httpx.Response(200 if left >= 0 else 429)

    found = asyncio.run(_asked_by_many(1000, send, Patience(0.1)))
    assert sorted(found) == [200] * 40 + [429] * 960
    assert late < 960 + 32 * 2 * 0.1 / SOON.longest_s
