"""Answers before there is a label: who may have them, by what they are given, and what they say of themselves."""

from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from app.auth.principal import Scope
from app.infra.db.session import transaction
from app.infra.tables.schemas import Schema, SchemaVersion
from app.infra.tables.tenants import Ungated
from app.serving.vllm import BASE_NAME
from tests.app.classify.serving_contexts import TEXT, Live, publish, set_tenant
from tests.app.classify.test_stream import events
from tests.callers import Callers
from tests.evaluation.fake_server import FakeServer
from tests.factories.rows import Story, save, story

pytestmark = pytest.mark.anyio

CATEGORIES = [
    {"key": "late", "definition": "The customer asks where a parcel is."},
    {"key": "money", "name": "Money back", "definition": "The customer wants their money back."},
]
STORED = [{"name": "Late"} | category for category in CATEGORIES]
AD_HOC = {"categories": CATEGORIES, "text": TEXT}


@pytest.fixture
async def told(callers: Callers) -> Story:
    """A published schema, and nothing deployed."""
    made = story()
    async with transaction(callers.database) as session:
        await save(session, *made)
    return made


async def asked(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/v1/classify", json={"text": TEXT} | body)


async def allow(callers: Callers, told: Story, ungated: Ungated) -> None:
    await set_tenant(callers, Live(told, "", await callers.anonymous()), ungated=ungated)


async def test_a_published_version_is_answered_by_the_base_before_anything_is_deployed(
    told: Story, callers: Callers, server: FakeServer
) -> None:
    client = await callers.of(told.scope, Scope.playground)
    answer = (await asked(client, schema="support")).json()
    assert (answer["category"], answer["gate"], answer["schema_version"]) == ("delivery", "none", 1)
    assert (answer["deployment_id"], answer["model_version"], answer["degraded"]) == (None, None, False)
    assert answer["calibration"] == {"method": "none", "n": 0, "ece": None}
    assert {body["model"] for body in server.bodies} == {BASE_NAME}
    assert server.bodies[0]["cache_salt"] == told.tenant.id.hex


async def test_a_draft_is_answered_as_it_is_written_now(
    told: Story, callers: Callers, server: FakeServer
) -> None:
    async with transaction(callers.database, told.scope) as session:
        row = await session.get_one(Schema, told.schema.id)
        row.draft = {"categories": STORED}
    client = await callers.of(told.scope, Scope.playground)
    drafted = (await asked(client, schema="support", schema_version="draft")).json()
    assert (drafted["category"], drafted["gate"], drafted["schema_version"]) == ("late", "none", None)
    assert (await asked(client, schema="support")).json()["category"] == "delivery"


async def test_before_the_first_version_the_draft_is_meant(
    told: Story, callers: Callers, server: FakeServer
) -> None:
    written = Schema(tenant_id=told.tenant.id, name="new", draft={"categories": STORED})
    async with transaction(callers.database, told.scope) as session:
        await save(session, written)
    client = await callers.of(told.scope, Scope.playground)
    assert (await asked(client, schema="new")).json()["category"] == "late"
    missing = await asked(client, schema="new", schema_version=1)
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


async def test_a_draft_that_is_no_schema_yet_says_what_is_missing(
    told: Story, callers: Callers, server: FakeServer
) -> None:
    written = Schema(tenant_id=told.tenant.id, name="new", draft={"categories": [{"key": "late"}]})
    async with transaction(callers.database, told.scope) as session:
        await save(session, written)
    refused = await asked(await callers.of(told.scope, Scope.playground), schema="new")
    assert (refused.status_code, refused.json()["code"]) == (422, "schema_not_ready")
    assert any("definition" in problem["where"] for problem in refused.json()["problems"])
    assert server.bodies == []


@pytest.mark.parametrize("path", ["", "/batch", "/stream"])
async def test_categories_of_the_request_are_answered_and_not_stored(
    told: Story, callers: Callers, server: FakeServer, path: str
) -> None:
    client = await callers.of(told.scope, Scope.playground)
    items = [{"id": "1", "text": TEXT}]
    body = {"categories": CATEGORIES, "items": items} if path == "/batch" else AD_HOC
    response = await client.post(f"/v1/classify{path}", json=body)
    answer = events(response)[-1][1] if path == "/stream" else response.json()
    if path == "/batch":
        answer = answer["results"][0]["answer"]
    assert (answer["category"], answer["gate"], answer["schema_version"]) == ("late", "none", None)
    assert answer["decided_by"]["text"] == CATEGORIES[0]["definition"]
    shown = server.bodies[0]["messages"][0]["content"]
    assert "name: late" in shown and "name: Money back" in shown
    async with transaction(callers.database, told.scope, read_only=True) as session:
        counts = [
            await session.scalar(select(func.count()).select_from(kind)) for kind in (Schema, SchemaVersion)
        ]
    assert counts == [1, 1]


async def test_categories_may_ask_another_question_and_allow_none_of_them(
    told: Story, callers: Callers, server: FakeServer
) -> None:
    client = await callers.of(told.scope, Scope.playground)
    answer = (await client.post("/v1/classify", json=AD_HOC | {"none_of_these": True})).json()
    assert {entry["category"] for entry in answer["probabilities"]} == {"late", "money", None}
    await client.post("/v1/classify", json=AD_HOC | {"question": "What are they after?"})
    assert "question: What are they after?" in server.bodies[-1]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"categories": []}, "categories"),
        ({"categories": CATEGORIES, "schema": "support"}, "body"),
        ({"categories": CATEGORIES, "schema_version": 1}, "body"),
        ({"schema": "support", "none_of_these": True}, "body"),
        ({"schema": "support", "schema_version": 0}, "schema_version"),
        ({"schema": "support", "schema_version": "newest"}, "schema_version"),
        ({"categories": [CATEGORIES[0], CATEGORIES[0]]}, "category 'late', key"),
        ({"categories": [{"key": "a b", "definition": "x"}]}, "category 'a b', key"),
        ({"categories": [{"key": "a"}]}, "categories.0.definition"),
    ],
)
async def test_what_cannot_be_asked_by_says_what_to_mend(
    told: Story, callers: Callers, server: FakeServer, body: dict[str, Any], where: str
) -> None:
    refused = await asked(await callers.of(told.scope, Scope.playground), **body)
    assert refused.status_code == 422
    assert any(where in problem["where"] for problem in refused.json()["problems"]), refused.text
    assert server.bodies == []


CHOICES: list[dict[str, Any]] = [
    {"schema": "support"},
    {"schema": "support", "schema_version": 1},
    {"schema": "support", "schema_version": "draft"},
    {"categories": CATEGORIES},
]


@pytest.mark.parametrize(
    ("ungated", "scope", "allowed"),
    [
        (Ungated.playground, Scope.playground, True),
        (Ungated.playground, Scope.classify, False),
        (Ungated.api, Scope.playground, True),
        (Ungated.api, Scope.classify, True),
        (Ungated.off, Scope.playground, False),
        (Ungated.off, Scope.admin, False),
    ],
)
async def test_who_is_answered_without_a_gate_is_the_tenants_choice(
    told: Story, callers: Callers, server: FakeServer, ungated: Ungated, scope: Scope, allowed: bool
) -> None:
    await allow(callers, told, ungated)
    client = await callers.of(told.scope, scope)
    for choice in CHOICES:
        response = await asked(client, **choice)
        assert (response.status_code == 200) == allowed, response.text
        if not allowed:
            code = "nothing_deployed" if choice == {"schema": "support"} else "ungated_not_allowed"
            assert (response.status_code, response.json()["code"]) == (409, code)
            assert "ungated" in response.json()["detail"]
    assert bool(server.bodies) == allowed


async def test_once_a_deployment_is_live_the_api_serves_nothing_less_of_its_schema(
    live: Live, callers: Callers, server: FakeServer
) -> None:
    await set_tenant(callers, live, ungated=Ungated.api)
    await publish(callers.database, live.told, none_of_these=False)
    answer = (await asked(live.client, schema="support")).json()
    assert (answer["gate"], answer["deployment_id"]) == ("passed", live.deployment_id)
    assert (await asked(live.client, schema="support", schema_version=1)).json()["gate"] == "passed"
    for version in (2, "draft"):
        refused = await asked(live.client, schema="support", schema_version=version)
        assert (refused.status_code, refused.json()["code"]) == (409, "ungated_not_allowed")
    assert BASE_NAME not in {body["model"] for body in server.bodies}


async def test_a_key_for_the_playground_may_try_an_edit_beside_what_is_live(
    live: Live, callers: Callers, server: FakeServer
) -> None:
    await publish(callers.database, live.told, none_of_these=False)
    client = await callers.of(live.told.scope, Scope.playground)
    found = [(await asked(client, schema="support", schema_version=v)).json() for v in (None, 2)]
    assert [(answer["gate"], answer["schema_version"]) for answer in found] == [("passed", 1), ("none", 2)]


async def test_a_provisional_answer_says_so(live: Live, callers: Callers, server: FakeServer) -> None:
    await set_tenant(callers, live, serve_edits="at_once")
    await publish(callers.database, live.told, none_of_these=False)
    answer = (await asked(live.client, schema="support")).json()
    assert (answer["gate"], answer["provisional"], answer["schema_version"]) == ("provisional", True, 2)


async def test_the_tenants_threshold_and_mode_hold_without_a_gate_too(
    told: Story, callers: Callers, server: FakeServer
) -> None:
    await set_tenant(
        callers, Live(told, "", await callers.anonymous()), ungated=Ungated.api, mode="fast", abstain_below=1
    )
    client = await callers.of(told.scope, Scope.classify)
    answer = (await asked(client, categories=CATEGORIES)).json()
    assert (answer["mode"], answer["reasoning"]) == ("fast", None)
    assert (answer["category"], answer["abstained"]) == (None, answer["confidence"] < 1)


async def test_another_tenants_draft_does_not_exist(
    told: Story, callers: Callers, other_client: httpx.AsyncClient, server: FakeServer
) -> None:
    for choice in ({"schema_id": str(told.schema.id)}, {"schema": "support"}):
        foreign = await asked(other_client, **choice, schema_version="draft")
        assert (foreign.status_code, foreign.json()["code"]) == (404, "not_found")
    assert server.bodies == []
