"""The short bench of security, as `steerwise bench security --short` runs it: nothing is found. And that each of its
checks finds something where something is wrong: faults that are planted in the API, in its reading of files, or in what
a model server is told."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Query
from pydantic import Field
from starlette.responses import PlainTextResponse

from app.auth.access import needs
from app.auth.route import KeyedRoute
from app.classify.service import ClassifyContext
from app.http.payload import RequestBody
from app.infra.db.engine import Database
from app.main import create_app
from app.settings import Settings
from app.studies.security import (
    bench,
    conformance,
    deletion,
    histories,
    inputs,
    leaks,
    learned_words,
    prefix_cache,
    rights,
    worst_bodies,
)
from app.studies.security.lab import Lab
from app.studies.security.learned_words import AnsweredTenant
from app.studies.security.results import Skipped, SliceFound
from evaluation.contract import parse
from evaluation.contract.chat import ChatForm

pytestmark = pytest.mark.slow
CHECKS = [check for check in bench.CHECKS if check.short.size]


@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
def test_the_short_bench_finds_nothing(check: Any, place: Lab) -> None:
    try:
        found = check.run(place, 0, check.short.size)
    except Skipped as reason:
        pytest.skip(f"NOT TRIED: {reason}")
    assert found.failures == []
    assert found.cases > 0


# ------------------------------------------------------------------------------------------------- planted faults


class PlantedBody(RequestBody):
    words: Annotated[list[str], Field(max_length=3)] = Field([])


@contextmanager
def planted(place: Lab, *faults: Callable[[FastAPI], None]) -> Iterator[None]:
    def made(settings: Settings) -> FastAPI:
        api = create_app(settings)
        for fault in faults:
            fault(api)
        return api

    usual, place.make_api = place.make_api, made
    try:
        yield
    finally:
        place.make_api = usual


def add(api: FastAPI, path: str, endpoint: Callable[..., Any], method: str, **more: Any) -> None:
    route = KeyedRoute(path, endpoint, methods=[method], dependencies=[Depends(needs())], **more)
    api.router.routes.insert(0, route)
    api.openapi_schema = None


def shows_everybodys_schemas(api: FastAPI) -> None:
    async def planted_leak(schema_id: str) -> PlainTextResponse:
        database: Database = api.state.database
        async with database.engine.connect() as connection:
            rows = await connection.exec_driver_sql("SELECT draft FROM schemas")
            return PlainTextResponse("\n".join(str(row[0]) for row in rows))

    add(api, "/v1/planted/{schema_id}", planted_leak, "GET", operation_id="planted_leak")


def takes_every_key(api: FastAPI) -> None:
    route = next(one for one in api.routes if getattr(one, "operation_id", None) == "list_runs")

    async def planted_open() -> dict[str, Any]:
        return {"items": [], "next_cursor": None}

    api.router.routes.insert(0, KeyedOpen(route.path, planted_open, methods=["GET"]))  # type: ignore[attr-defined]


class KeyedOpen(KeyedRoute):
    """Says that it needs a key, and lets everybody in."""

    def get_route_handler(self) -> Any:
        self.access = None
        return super(KeyedRoute, self).get_route_handler()


def breaks_on_a_number(api: FastAPI) -> None:
    async def planted_500(number: Annotated[int, Query(examples=[1])]) -> dict[str, int]:
        if number != 1:
            raise ZeroDivisionError
        return {"number": number}

    add(api, "/v1/planted", planted_500, "GET", operation_id="planted_500")


def answers_what_it_does_not_declare(api: FastAPI) -> None:
    async def planted_teapot() -> PlainTextResponse:
        return PlainTextResponse("short and stout", 418)

    add(api, "/v1/planted", planted_teapot, "GET", operation_id="planted_teapot")


class PlantedOpenBody(RequestBody):
    """Takes a text of any length, so that its handler is reached."""

    words: str = Field(examples=["hello"])


def holds_the_loop(api: FastAPI) -> None:
    async def planted_hold(body: PlantedOpenBody) -> dict[str, int]:
        until = time.thread_time() + 2 * worst_bodies.MAX_HOLD_S
        while time.thread_time() < until:
            pass
        return {"length": len(body.words)}

    add(api, "/v1/planted", planted_hold, "POST", operation_id="planted_hold")


def found_by(run: Callable[[Lab, int, int], SliceFound], place: Lab, size: int = 1) -> list[str]:
    return run(place, 0, size).failures


def test_an_operation_that_shows_another_tenants_definitions_is_found(place: Lab) -> None:
    with planted(place, shows_everybodys_schemas):
        failures = found_by(rights.run, place)
    assert "GET /v1/planted/{schema_id}, path: shows what is the other tenant's" in failures


def test_an_operation_that_lets_everybody_in_is_found(place: Lab) -> None:
    with planted(place, takes_every_key):
        failures = found_by(rights.run, place)
    for case in ("no key", "an expired key", "a revoked key", "every scope but runs:read"):
        assert f"GET /v1/runs, {case}: answered 200" in failures


def test_a_body_that_holds_the_loop_is_found(place: Lab) -> None:
    with planted(place, holds_the_loop):
        failures = found_by(worst_bodies.run, place)
    assert any(re.search(r"POST /v1/planted: .*held for 0\.[2-9]", one) for one in failures), failures


@pytest.mark.parametrize(
    ("fault", "told"),
    [(breaks_on_a_number, "planted.*not_a_server_error"), (answers_what_it_does_not_declare, "planted.*418")],
)
def test_a_wrong_answer_is_found_by_made_up_requests(fault: Any, told: str, place: Lab) -> None:
    with planted(place, fault):
        failures = found_by(conformance.run, place)
    assert any(re.search(told, one) for one in failures), failures


def test_a_key_that_outlives_its_end_is_found_by_histories(
    place: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        pass

    monkeypatch.setattr("app.auth.service._check_line", never)
    assert "a key (" in "".join(found_by(histories.run, place, 8))


def test_a_file_that_is_not_read_as_it_should_be_is_found(
    monkeypatch: pytest.MonkeyPatch, place: Lab
) -> None:
    def breaks(*_: Any) -> Any:
        raise RecursionError

    monkeypatch.setattr("evaluation.formats.rasa.rows", breaks)
    assert "RecursionError" in "".join(found_by(inputs.run_files, place, 200))


def test_a_slow_reading_and_a_large_one_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_: bytes) -> None:
        until = time.thread_time() + 1.2 * inputs.MAX_INPUT_S
        while time.thread_time() < until:
            pass

    kept: list[bytearray] = []

    def large(_: bytes) -> None:
        kept.append(bytearray(b"a" * (300 << 20)))

    assert "of processor time" in inputs.tried([b""], slow).failures[0]
    monkeypatch.setattr(inputs, "MAX_INPUT_S", 60.0)
    assert "MiB larger" in inputs.tried([b""], large).failures[0]


def test_a_file_that_swells_is_found(monkeypatch: pytest.MonkeyPatch, place: Lab) -> None:
    monkeypatch.setattr(inputs, "MAX_SWELLING_MIB", 1)
    assert "MiB" in "".join(found_by(inputs.run_swelling, place))


def test_an_answer_that_is_read_wrongly_is_found(monkeypatch: pytest.MonkeyPatch, place: Lab) -> None:
    monkeypatch.setattr(parse, "code_at", lambda _: 0)
    assert "where no word begins" in "".join(found_by(inputs.run_contract, place, 300))


def test_a_control_token_in_a_prompt_is_found(monkeypatch: pytest.MonkeyPatch, place: Lab) -> None:
    monkeypatch.setattr(ChatForm, "broken_up", lambda _, text: text.replace("< |", "<|").replace("| >", "|>"))
    assert "holds a control token" in "".join(found_by(inputs.run_contract, place, 300))


def test_prefixes_that_tenants_share_are_found(monkeypatch: pytest.MonkeyPatch, place: Lab) -> None:
    usual = ClassifyContext.sending
    monkeypatch.setattr(ClassifyContext, "sending", lambda at: usual(at)._replace(cache_salt="one for all"))
    assert found_by(leaks.run, place) == [
        "the tenants share cached prefixes at the model server (cache_salt)"
    ]


def test_words_in_the_log_are_found(monkeypatch: pytest.MonkeyPatch, place: Lab) -> None:
    from app.classify import service

    usual = service.check_length

    async def telling(at: Any, serving: Any, conversation: Any) -> None:
        service.log.info("asked", first=serving.page.schema.categories[0].name)
        await usual(at, serving, conversation)

    monkeypatch.setattr(service, "check_length", telling)
    assert "the log holds what a tenant's customer wrote" in found_by(leaks.run, place)


def test_a_cache_that_tells_what_was_asked_is_found() -> None:
    seen: set[str] = set()
    found = 0.0

    async def hits() -> float:
        return found

    async def ask(definition: str) -> None:
        nonlocal found
        found += 100 if definition in seen else 0
        seen.add(definition)

    pairs = asyncio.run(prefix_cache.probed(hits, ask, ask, 4))
    assert len(prefix_cache.judged(pairs).failures) == 4
    seen.clear()

    async def own(definition: str) -> None:
        """With a cache of its own, as the salt of each tenant makes it."""

    pairs = asyncio.run(prefix_cache.probed(hits, own, ask, 4))
    assert prefix_cache.judged(pairs).failures == []


def test_words_that_another_model_learned_are_found() -> None:
    one, other = AnsweredTenant("zq1", ["zq1 zq1", "zq1"]), AnsweredTenant("zq2", ["zq2", "nothing"])
    assert learned_words.judged((one, other), {"log": "quiet"}).failures == []
    mixed = learned_words.judged((one, other._replace(answers=["zq2", "zq1"])), {"log": "zq2 was said"})
    assert [failure.split(":")[0] for failure in mixed.failures] == [
        "tenant 2 is answered with a word of the other",
        "log holds what a tenant's model learned",
    ]
    silent = learned_words.judged((one, other._replace(answers=["nothing", "nothing"])), {})
    assert silent.failures == ["tenant 2's model never says what it learned, so that nothing was tried"]


def test_a_word_that_is_left_in_a_file_is_found(tmp_path: Path) -> None:
    word = secrets.token_hex(8)
    (tmp_path / "free-pages.db").write_bytes(b"\0" * ((1 << 20) - 3) + word.encode() + b"\0" * 100)
    (tmp_path / "other").write_text("nothing")
    assert list(deletion.places_of(word, tmp_path)) == ["free-pages.db"]
