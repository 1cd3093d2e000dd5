"""From a draft to versions and back."""

import asyncio
from collections.abc import Awaitable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select

from app.auth.principal import Scope
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.records import AuditEvent
from evaluation.contract.schema import CategorySchema
from tests.callers import Callers

pytestmark = pytest.mark.anyio


def content(*names: str, **fields: Any) -> dict[str, Any]:
    categories = [{"key": name.lower(), "name": name, "definition": f"About {name}."} for name in names]
    return {"categories": categories} | fields


READY = content("Refund", "Parcel", none_of_these=True)


async def made(client: httpx.AsyncClient, draft: Any = READY, name: str = "orders") -> str:
    answer = await client.post("/v1/schemas", json={"name": name, "draft": draft})
    assert answer.status_code == 201, answer.text
    return f"/v1/schemas/{answer.json()['id']}"


async def edited(client: httpx.AsyncClient, schema: str, draft: Any) -> dict[str, Any]:
    etag = (await client.get(f"{schema}/draft")).headers["etag"]
    answer = await client.put(f"{schema}/draft", json=draft, headers={"If-Match": etag})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_a_schema_may_begin_empty_and_says_what_is_missing(client: httpx.AsyncClient) -> None:
    schema = await made(client, draft={"categories": []})
    draft = await client.get(f"{schema}/draft")
    assert draft.headers["etag"] == '"1"'
    assert draft.json()["problems"] == [
        {"where": "categories", "message": "there are 0, and a schema has 1 to 100"}
    ]
    refused = await client.post(f"{schema}/publish")
    assert (refused.status_code, refused.json()["code"]) == (422, "schema_not_ready")
    assert refused.json()["problems"] == draft.json()["problems"]
    assert (await client.get(f"{schema}/versions")).json() == {"items": [], "next_cursor": None}


async def test_an_incomplete_draft_is_stored_as_it_is_given(client: httpx.AsyncClient) -> None:
    schema = await made(client)
    half_done = {"categories": [{"key": "refund", "colour": "red"}, 7], "notes": {"a": [1.5, None, True]}}
    draft = await edited(client, schema, half_done)
    assert draft["content"] == half_done and draft["revision"] == 2
    assert (await client.get(f"{schema}/draft")).json() == draft
    assert {problem["where"] for problem in draft["problems"]} >= {
        "category 'refund', name",
        "category 'refund', definition",
        "category 'number 2', entry",
        "notes",
    }


async def test_an_edit_names_the_draft_that_it_was_made_from(client: httpx.AsyncClient) -> None:
    schema = await made(client)
    missing = await client.put(f"{schema}/draft", json=READY)
    assert (missing.status_code, missing.json()["code"]) == (428, "if_match_missing")
    first = await client.put(f"{schema}/draft", json=content("A"), headers={"If-Match": '"1"'})
    assert (first.status_code, first.headers["etag"]) == (200, '"2"')
    late = await client.put(f"{schema}/draft", json=content("B"), headers={"If-Match": '"1"'})
    assert (late.status_code, late.json()["code"]) == (412, "stale")
    assert (await client.get(f"{schema}/draft")).json()["content"] == content("A")
    forced = await client.put(f"{schema}/draft", json=content("C"), headers={"If-Match": "*"})
    assert forced.headers["etag"] == '"3"'


async def test_publishing_freezes_the_draft_as_the_next_version(client: httpx.AsyncClient) -> None:
    schema = await made(client)
    first = await client.post(f"{schema}/publish")
    assert (first.status_code, first.json()["number"]) == (201, 1)
    frozen = CategorySchema.model_validate(first.json()["content"])
    assert (frozen.name, frozen.keys, frozen.none_of_these) == ("orders", ("refund", "parcel"), True)
    assert frozen.sha256 == first.json()["sha256"]
    await edited(client, schema, content("Refund"))
    second = await client.post(f"{schema}/publish")
    assert (second.status_code, second.json()["number"]) == (201, 2)
    assert (await client.get(f"{schema}/versions/1")).json() == first.json()
    assert (await client.get(schema)).json()["latest_version"] == 2
    assert [v["number"] for v in (await client.get(f"{schema}/versions")).json()["items"]] == [2, 1]


async def test_publishing_equal_content_returns_the_version_that_has_it(client: httpx.AsyncClient) -> None:
    schema = await made(client)
    first = await client.post(f"{schema}/publish")
    again = await client.post(f"{schema}/publish")
    assert (again.status_code, again.json()) == (200, first.json())
    # The same said otherwise: fields that have their default, and space around words.
    same = content(" Refund ", "Parcel", none_of_these=True, name="orders")
    for category in same["categories"]:
        category |= {
            "key": category["key"].strip(),
            "definition": category["definition"].replace(" Refund ", "Refund"),
        }
    same["categories"][0]["definition"] = "About Refund."
    same["categories"][1]["includes"] = []
    await edited(client, schema, same)
    assert (await client.post(f"{schema}/publish")).json() == first.json()


async def test_only_the_draft_that_was_read_is_published_if_it_is_named(client: httpx.AsyncClient) -> None:
    schema = await made(client)
    await edited(client, schema, content("Refund"))
    stale = await client.post(f"{schema}/publish", headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    assert (await client.post(f"{schema}/publish", headers={"If-Match": '"2"'})).status_code == 201


async def test_an_old_version_becomes_the_draft_again(client: httpx.AsyncClient) -> None:
    schema = await made(client)
    first = (await client.post(f"{schema}/publish")).json()
    await edited(client, schema, content("Other"))
    await client.post(f"{schema}/publish")
    assert (await client.post(f"{schema}/restore", json={"number": 1})).status_code == 428
    stale = await client.post(f"{schema}/restore", json={"number": 1}, headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    restored = await client.post(f"{schema}/restore", json={"number": 1}, headers={"If-Match": '"2"'})
    assert (restored.status_code, restored.headers["etag"]) == (200, '"3"')
    assert restored.json()["content"] == first["content"] and restored.json()["problems"] == []
    for _ in range(2):
        assert (await client.post(f"{schema}/publish")).json()["number"] == 1
        shown = (await client.get(schema)).json()
        assert (shown["current_version"], shown["latest_version"]) == (1, 2)
    for number, status in ((3, 404), (0, 422), ("one", 422), (2**31, 422)):
        answer = await client.post(f"{schema}/restore", json={"number": number}, headers={"If-Match": "*"})
        assert answer.status_code == status, number


async def test_a_diff_tells_what_an_edit_did(client: httpx.AsyncClient) -> None:
    schema = await made(client)
    await client.post(f"{schema}/publish")
    edit = content("Refund", "Return", none_of_these=True)
    edit["categories"][0] |= {"definition": "Money back.", "includes": ["a double charge"]}
    await edited(client, schema, edit)
    await client.post(f"{schema}/publish")
    found = (await client.get(f"{schema}/diff", params={"from": 1, "to": 2})).json()
    assert [c["key"] for c in found["added"]] == ["return"]
    assert [c["key"] for c in found["removed"]] == ["parcel"]
    [change] = found["changed"]
    assert change["definition"] == {"old": "About Refund.", "new": "Money back."}
    assert change["includes_added"] == ["a double charge"]
    assert "    + include: a double charge" in found["text"].splitlines()
    back = (await client.get(f"{schema}/diff", params={"from": 2, "to": 1})).json()
    assert back["changed"][0]["includes_removed"] == ["a double charge"]
    assert (await client.get(f"{schema}/diff", params={"from": 1, "to": 1})).json()["text"] == "no difference"
    assert (await client.get(f"{schema}/diff", params={"from": 1, "to": 9})).status_code == 404
    assert (await client.get(f"{schema}/diff", params={"from": 1})).status_code == 422


async def test_two_schemas_of_a_tenant_cannot_have_one_name_but_two_tenants_can(
    client: httpx.AsyncClient, other_client: httpx.AsyncClient
) -> None:
    await made(client)
    refused = await client.post("/v1/schemas", json={"name": "orders"})
    assert (refused.status_code, refused.json()["code"]) == (409, "name_taken")
    await made(other_client)


async def test_another_tenants_schema_does_not_exist(
    client: httpx.AsyncClient, other_client: httpx.AsyncClient
) -> None:
    schema = await made(client)
    await client.post(f"{schema}/publish")
    any_state = {"If-Match": "*"}
    for place in (schema, f"/v1/schemas/{uuid4()}"):
        for answer in (
            await other_client.get(place),
            await other_client.get(f"{place}/draft"),
            await other_client.put(f"{place}/draft", json=READY, headers=any_state),
            await other_client.post(f"{place}/publish"),
            await other_client.get(f"{place}/versions"),
            await other_client.get(f"{place}/versions/1"),
            await other_client.get(f"{place}/diff?from=1&to=1"),
            await other_client.post(f"{place}/restore", json={"number": 1}, headers=any_state),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), answer.url
    assert (await other_client.get("/v1/schemas")).json()["items"] == []


async def test_editing_needs_its_scope(
    callers: Callers, client: httpx.AsyncClient, scope: TenantScope
) -> None:
    schema = await made(client)
    reader = await callers.of(scope, Scope.classify)
    any_state = {"If-Match": "*"}
    for answer in (
        await reader.put(f"{schema}/draft", json=READY, headers=any_state),
        await reader.post(f"{schema}/publish"),
        await reader.post(f"{schema}/restore", json={"number": 1}, headers=any_state),
    ):
        assert answer.status_code == 403
    editor = await callers.of(scope, Scope.schemas_write)
    published = await editor.post(f"{schema}/publish")
    assert published.status_code == 201
    assert published.json()["published_by"] == (await editor.get("/v1/me")).json()["key"]["id"]


async def test_publishing_is_written_down(
    client: httpx.AsyncClient, callers: Callers, scope: TenantScope
) -> None:
    schema = await made(client)
    version = (await client.post(f"{schema}/publish")).json()
    await client.post(f"{schema}/publish")
    async with transaction(callers.database, scope) as session:
        rows = await session.scalars(select(AuditEvent).where(AuditEvent.action == "schema.published"))
        details = [event.detail for event in sorted(rows, key=lambda event: event.at)]
    expected = {"number": 1, "sha256": version["sha256"]}
    assert details == [expected | {"new": True}, expected | {"new": False}]


async def test_versions_come_in_pages(client: httpx.AsyncClient) -> None:
    schema = await made(client)
    for name in ("A", "B", "C"):
        await edited(client, schema, content(name))
        await client.post(f"{schema}/publish")
    numbers, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(f"{schema}/versions", params=params)).json()
        numbers += [version["number"] for version in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert numbers == [3, 2, 1]


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"7",
        b'"x"',
        b"null",
        b"",
        b"{",
        b'{"a": NaN}',
        b'{"a": "\\u0000"}',
        b'{"a": "\\ud800"}',
        b"\xff",
    ],
)
async def test_a_draft_that_no_database_could_hold_is_refused(body: bytes, client: httpx.AsyncClient) -> None:
    schema = await made(client)
    headers = {"If-Match": "*", "Content-Type": "application/json"}
    refused = await client.put(f"{schema}/draft", content=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert (await client.get(f"{schema}/draft")).json()["revision"] == 1


async def test_a_draft_that_is_nested_too_deep_or_too_large_is_refused(client: httpx.AsyncClient) -> None:
    schema = await made(client)
    headers = {"If-Match": "*", "Content-Type": "application/json"}
    deep = b'{"a":' * 40 + b"1" + b"}" * 40
    assert (await client.put(f"{schema}/draft", content=deep, headers=headers)).status_code == 422
    hopeless = b"[" * 200_000
    assert (await client.put(f"{schema}/draft", content=hopeless, headers=headers)).status_code == 422
    large = b'{"a":"' + b"x" * (1 << 20) + b'"}'
    refused = await client.put(f"{schema}/draft", content=large, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (413, "too_large")


async def at_once(*requests: Awaitable[httpx.Response]) -> list[int]:
    return sorted(answer.status_code for answer in await asyncio.gather(*requests))


async def test_of_two_edits_made_from_one_draft_one_is_refused(client: httpx.AsyncClient) -> None:
    schema = await made(client)
    read = {"If-Match": '"1"'}
    edits = [client.put(f"{schema}/draft", json=content(name), headers=read) for name in ("A", "B", "C")]
    assert await at_once(*edits) == [200, 412, 412]
    assert (await client.get(f"{schema}/draft")).json()["revision"] == 2


async def test_one_draft_published_by_several_at_once_is_one_version(client: httpx.AsyncClient) -> None:
    schema = await made(client)
    assert await at_once(*[client.post(f"{schema}/publish") for _ in range(3)]) == [200, 200, 201]
    assert [v["number"] for v in (await client.get(f"{schema}/versions")).json()["items"]] == [1]
