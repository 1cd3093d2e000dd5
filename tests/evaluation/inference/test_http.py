"""Asking a server again: when, how often, and how long after."""

import asyncio
from collections.abc import Mapping

import httpx
import pytest

from evaluation.inference.http import Retries, pause_s, retry_after_s, sent

QUICK = Retries(attempts=4, backoff_s=0.001)


def asked(*answers: int | Exception | httpx.Response, retries: Retries = QUICK) -> tuple[httpx.Response, int]:
    """The response, and how many requests it took; the last answer is given from then on."""
    count = 0

    async def send() -> httpx.Response:
        nonlocal count
        answer = answers[min(count, len(answers) - 1)]
        count += 1
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer) if isinstance(answer, int) else answer

    return asyncio.run(sent(send, retries)), count


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


def test_a_server_gets_the_time_that_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def counted(wait_s: float) -> None:
        waits.append(wait_s)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", counted)
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
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
    ],
)
def test_only_a_number_of_seconds_is_read_as_one(headers: Mapping[str, str], wanted: float | None) -> None:
    assert retry_after_s(headers) == wanted
