"""Nothing that a stranger writes costs without end: every list, string and number of a body has its bound. The worst
body of each operation is tried by the bench of security (tests/app/studies/security)."""

import asyncio
import time
import unicodedata
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import Field, TypeAdapter

from app.auth import service
from app.auth.principal import Scope
from app.auth.service import KeyOrder
from app.http.payload import RequestBody
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.tables.deployments import DeploymentState
from app.main import create_app
from app.runs.payloads import _STAGES
from app.settings import Settings
from app.studies.security.loop_holds import watched
from app.studies.security.worst_bodies import MAX_HOLD_S, MAX_STARVED_S
from tests.factories.rows import deployment_of, ids_of, save, story

pytestmark = pytest.mark.anyio
BOUNDED_FORMATS = {"uuid", "date-time"}
# A draft is stored as it is given; what it may hold is bounded by its length, and checked in a thread. Stages are
# described to clients as objects, and walked by what they are checked as. Questions and options have names of the
# caller's own; how many there may be is checked. JSON that is shown to a model as it is, is bounded by how much of it
# is shown.
FREE = {
    "SchemaIn.draft",
    "DraftIn",
    "RunIn.stages[]",
    "SystemOneIn.questions",
    "SystemOneChoiceIn.criteria",
    "JsonPartIn.data",
    "JsonPartIn.data[]",
}


class Planted(RequestBody):
    text: str
    many: list[int] = Field(max_length=3)
    number: int = Field(ge=0)
    free: dict[str, int]


def models() -> Iterator[tuple[str, dict[str, Any]]]:
    for model in {
        one for one in _below(RequestBody) if one.__module__.startswith("app.")
    }:  # not those of tests
        yield model.__name__, model.model_json_schema()
    yield "stages", TypeAdapter(_STAGES).json_schema()


def _below(model: type[RequestBody]) -> Iterator[type[RequestBody]]:
    for one in model.__subclasses__():
        yield one
        yield from _below(one)


def unbounded(name: str, schema: dict[str, Any]) -> Iterator[str]:
    """Where in a model there may be as much as somebody likes."""
    defined = schema.get("$defs", {})
    for below, described in defined.items():
        yield from _unbounded(below, described)
    yield from _unbounded(name, schema)


def _unbounded(where: str, said: dict[str, Any]) -> Iterator[str]:
    if where in FREE:
        return
    for inner in (*said.get("anyOf", ()), *said.get("oneOf", ()), *said.get("allOf", ())):
        yield from _unbounded(where, inner)
    if "type" in said and not _is_bounded(said):
        yield where
    if "items" in said:
        yield from _unbounded(f"{where}[]", said["items"])
    for name, inner in said.get("properties", {}).items():
        yield from _unbounded(f"{where}.{name}", inner)
    of_any_name = [*said.get("patternProperties", {}).values(), said.get("additionalProperties")]
    for inner in of_any_name:
        if isinstance(inner, dict):
            yield from _unbounded(f"{where}.*", inner)


def _is_bounded(said: dict[str, Any]) -> bool:
    match said["type"]:
        case "string":
            return bool({"maxLength", "enum", "const"} & said.keys()) or said.get("format") in BOUNDED_FORMATS
        case "integer" | "number":
            ends = ({"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"})
            return all(end & said.keys() for end in ends)
        case "array":
            return "maxItems" in said
        case "object":
            closed = "properties" in said and said.get("additionalProperties") is False
            return closed or "maxProperties" in said
    return True


def test_every_list_string_and_number_of_a_body_has_its_bound() -> None:
    found = dict(models())
    assert len(found) > 12
    assert sorted({place for name, schema in found.items() for place in unbounded(name, schema)}) == []


def test_what_has_no_bound_is_seen() -> None:
    assert set(unbounded("Planted", Planted.model_json_schema())) == {
        "Planted.text",
        "Planted.many[]",
        "Planted.number",
        "Planted.free",
        "Planted.free.*",
    }


@pytest.fixture
async def filled(sqlite: Database, sqlite_url: str, tmp_path: Any) -> AsyncIterator[tuple[FastAPI, Any]]:
    """The API, and what a client with everything in it knows: headers and ids."""
    told = story()
    live = deployment_of(told, state=DeploymentState.live)
    async with transaction(sqlite) as session:
        await save(session, *told, live)
        own = await service.create(session, None, told.tenant.id, KeyOrder("worst", list(Scope)))
        other = await service.create(session, None, told.tenant.id, KeyOrder("to be revoked", []))
    api = create_app(
        Settings(home=tmp_path / "home", database_url=sqlite_url, storage_url=str(tmp_path / "storage")),
        sqlite,
    )
    async with api.router.lifespan_context(api):
        headers = {"Authorization": f"Bearer {own.text}", "Content-Type": "application/json", "If-Match": "*"}
        transport = httpx.ASGITransport(api)
        async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as client:
            yield api, (client, ids_of(told, live, other.row.id))


async def test_a_hostile_draft_is_looked_through_once_and_not_at_every_read(filled: Any) -> None:
    _api, (client, ids) = filled
    draft = {"categories": [{"key": f"k{n}", "includes": [1] * 50, "excludes": [1] * 50} for n in range(100)]}
    path = f"/v1/schemas/{ids['schema_id']}/draft"
    async with watched() as writing:
        written = await client.put(path, json=draft)
    assert written.status_code == 200 and len(written.json()["problems"]) == 200
    async with watched() as reading:
        assert (await client.get(path)).json()["problems"] == written.json()["problems"]
    assert max(writing.longest_s, reading.longest_s) < MAX_HOLD_S


@pytest.mark.slow
async def test_the_longest_conversations_that_are_taken_do_not_hold_the_loop_either(filled: Any) -> None:
    """Written, read, and listed: a page of them is as long as they allow."""
    _api, (client, ids) = filled
    made = await client.post("/v1/datasets", json={"name": "long", "schema_id": str(ids["schema_id"])})
    dataset = f"/v1/datasets/{made.json()['id']}/conversations"
    messages = [{"role": "customer", "text": f"{part} " + "wörd " * 17_000} for part in range(9)]
    holds: dict[str, float] = {}
    for number in range(4):
        sent = {"id": f"c{number}", "messages": [*messages, {"role": "customer", "text": str(number)}]}
        async with watched() as writing:
            stored = await client.post(dataset, json=sent)
        assert stored.status_code == 201, stored.text[:500]
        holds["written"] = max(writing.longest_s, holds.get("written", 0.0))
    async with watched() as listing:
        page = (await client.get(dataset, params={"limit": 200})).json()
    assert 1 <= len(page["items"]) < 4 and page["next_cursor"] is not None
    async with watched() as reading:
        assert (await client.get(f"/v1/conversations/{stored.json()['id']}")).status_code == 200
    holds |= {"listed": listing.longest_s, "read": reading.longest_s}
    assert {name: held for name, held in holds.items() if held > MAX_HOLD_S} == {}


@pytest.mark.parametrize("heap", ["\u0301\u0316", "\u200b", "</think>"], ids=ascii)
async def test_words_that_are_dear_to_look_at_hold_nobody(heap: str, filled: Any) -> None:
    """In no thread either: what normalises a text lets no other thread of the process run."""
    _api, (client, ids) = filled
    made = await client.post("/v1/datasets", json={"name": "dear", "schema_id": str(ids["schema_id"])})
    messages = [{"role": "customer", "text": "a" + heap * (90_000 // len(heap))}] * 2
    async with watched() as holds:
        path = f"/v1/datasets/{made.json()['id']}/conversations"
        stored = await client.post(path, json={"id": "c", "messages": messages})
    assert stored.status_code == 201, stored.text[:500]
    assert holds.longest_s < MAX_HOLD_S and holds.starved_s < MAX_STARVED_S


@pytest.mark.seconds
async def test_a_thread_that_lets_no_other_run_is_seen() -> None:
    """It is C, and takes a time that grows with the square of the length."""
    async with watched() as holds:
        await asyncio.to_thread(unicodedata.normalize, "NFC", "a" + "\u0301\u0316" * 20_000)
    assert holds.longest_s < MAX_HOLD_S < MAX_STARVED_S < holds.starved_s


async def test_a_loop_that_is_held_is_seen() -> None:
    def hold() -> None:
        until = time.thread_time() + 2 * MAX_HOLD_S
        while time.thread_time() < until:
            pass

    async with watched() as holds:
        asyncio.get_running_loop().call_soon(hold)
        await asyncio.sleep(0.01)
    assert holds.longest_s > MAX_HOLD_S
