"""What surrounds every request: its id, problem documents for whatever goes wrong, the cap on bodies."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from app.errors import AppError, InputError, ServingError, TooManyRequests, Unavailable
from app.http import problems
from app.http.bodies import MAX_BODY_BYTES, BodyCap, lift_body_cap
from app.http.middleware import RequestContext

pytestmark = pytest.mark.anyio


def application() -> FastAPI:
    api = FastAPI()
    problems.install(api)
    api.add_middleware(BodyCap)
    api.add_middleware(RequestContext)
    return api


async def asked(api: FastAPI, method: str, path: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://x") as client:
        return await client.request(method, path, **options)


async def raising(error: Exception) -> httpx.Response:
    api = application()

    @api.get("/broken")
    async def broken() -> None:
        raise error

    return await asked(api, "GET", "/broken")


async def test_a_request_has_an_id_that_its_sender_may_choose() -> None:
    api = application()
    made = (await asked(api, "GET", "/nowhere")).headers["x-request-id"]
    assert len(made) == 32
    chosen = await asked(api, "GET", "/nowhere", headers={"X-Request-ID": "order-77-retry"})
    assert chosen.headers["x-request-id"] == chosen.json()["request_id"] == "order-77-retry"
    for unfit in ("short", "x" * 65, 'quote"quote', "two words", "sw_;drop"):
        answer = await asked(api, "GET", "/nowhere", headers={"X-Request-ID": unfit})
        assert answer.headers["x-request-id"] != unfit


async def test_no_path_and_no_method_are_problem_documents() -> None:
    api = application()

    @api.get("/here")
    async def here() -> str:
        return "here"

    nowhere = await asked(api, "GET", "/nowhere")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")
    wrong = await asked(api, "DELETE", "/here")
    assert (wrong.status_code, wrong.json()["code"], wrong.headers["allow"]) == (
        405,
        "method_not_allowed",
        "GET",
    )
    for answer in (nowhere, wrong):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"].endswith(f":{answer.json()['code']}")


async def test_what_nobody_expected_is_a_500_with_an_id_that_the_log_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answer = await raising(ZeroDivisionError("the customer wrote: hello"))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "hello" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    logged = capsys.readouterr().out
    assert "ZeroDivisionError" in logged and answer.headers["x-request-id"] in logged


@pytest.mark.parametrize(
    ("error", "status", "code", "said"),
    [
        (InputError("bad", ["line 3: worse"]), 422, "bad_input", "bad"),
        (TooManyRequests("slower", retry_after_s=7), 429, "too_many_requests", "slower"),
        (Unavailable("the model is loading", retry_after_s=7), 503, "unavailable", "the model is loading"),
        (ServingError("vLLM died", ["secret path"]), 503, "serving_failed", problems._OURS),
        (AppError("a path of ours"), 500, "internal", problems._OURS),
        (
            ConnectionRefusedError("port 5432"),
            503,
            "unavailable",
            "something that this needs cannot be reached; try again",
        ),
    ],
)
async def test_an_error_is_answered_with_its_status_code_and_words(
    error: Exception, status: int, code: str, said: str
) -> None:
    answer = await raising(error)
    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (status, code, said)
    assert "secret path" not in answer.text
    if status == 429 or isinstance(error, Unavailable):
        assert answer.headers["retry-after"] == "7"


async def test_the_lines_of_bad_input_become_problems() -> None:
    answer = await raising(InputError("bad", ["line 3: worse", "line 4: worst"]))
    assert [problem["message"] for problem in answer.json()["problems"]] == ["line 3: worse", "line 4: worst"]


async def test_half_an_answer_is_cut_off_and_not_made_whole() -> None:
    api = application()

    async def half() -> AsyncIterator[bytes]:
        yield b"half"
        raise RuntimeError("gone")

    @api.get("/half")
    async def stream() -> StreamingResponse:
        return StreamingResponse(half())

    with pytest.raises(RuntimeError, match="gone"):
        await asked(api, "GET", "/half")


async def blocks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * (1 << 16)


async def test_a_body_above_the_cap_is_refused_while_it_comes_in() -> None:
    api = application()
    read = 0

    @api.post("/json")
    async def as_json(body: dict[str, Any]) -> int:
        return len(body)

    @api.post("/raw")
    async def raw(request: Request) -> None:
        nonlocal read
        async for block in request.stream():
            read += len(block)

    for path in ("/json", "/raw"):
        refused = await asked(api, "POST", path, content=blocks(64))
        assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
    assert read <= MAX_BODY_BYTES
    exactly = json.dumps({"a": "x" * (MAX_BODY_BYTES - 9)}).encode()
    assert len(exactly) == MAX_BODY_BYTES
    accepted = await asked(
        api, "POST", "/json", content=exactly, headers={"Content-Type": "application/json"}
    )
    assert accepted.json() == 1


async def test_an_endpoint_that_streams_may_lift_the_cap() -> None:
    api = application()

    @api.put("/upload")
    async def upload(request: Request, max_bytes: int | None = None) -> int:
        lift_body_cap(request, max_bytes)
        return sum([len(block) async for block in request.stream()])

    assert (await asked(api, "PUT", "/upload", content=blocks(64))).json() == 64 << 16
    refused = await asked(api, "PUT", "/upload?max_bytes=2000000", content=blocks(64))
    assert refused.status_code == 413


async def test_the_line_about_a_request_has_its_route_and_not_its_query(
    capsys: pytest.CaptureFixture[str],
) -> None:
    api = application()

    @api.get("/things/{thing_id}")
    async def thing(thing_id: str) -> str:
        return thing_id

    await asked(api, "GET", "/things/7?text=what+the+customer+said")
    await asked(api, "GET", "/things/ann@example.org")
    first, second = capsys.readouterr().out.strip().splitlines()
    assert "/things/{thing_id}" in first and "'thing_id': '7'" in first and "customer" not in first
    assert "/things/{thing_id}" in second and "ann" not in second
