"""What a call names as its model: of each name that is listed its own schema answers."""

from typing import Any

import pytest

from app.auth.principal import Scope
from tests.app.classify.serving_contexts import Live
from tests.app.decisions.clients import Clients
from tests.callers import Callers

pytestmark = pytest.mark.anyio


async def published(callers: Callers, live: Live, name: str, key: str) -> None:
    admin = await callers.of(live.told.scope, Scope.admin)
    categories = [{"key": one, "name": one, "definition": f"about {one}"} for one in (key, f"{key}2")]
    made = await admin.post("/v1/schemas", json={"name": name, "draft": {"categories": categories}})
    path = f"/v1/schemas/{made.raise_for_status().json()['id']}/publish"
    (await admin.post(path, headers={"If-Match": "*"})).raise_for_status()


async def test_every_listed_name_is_answered_by_its_own_schema(
    callers: Callers, clients: Clients, live: Live
) -> None:
    keys = {"foo": "plain", "schema:foo": "prefixed", "schema:bar": "bar", "steerwise": "own"}
    for name, key in keys.items():
        await published(callers, live, name, key)
    listed = [model["id"] for model in (await clients.plain.get("/v1/models")).json()["data"]]
    assert listed == [
        "steerwise",
        "foo",
        "schema:schema:bar",
        "schema:schema:foo",
        "schema:steerwise",
        "support",
    ]
    asked: dict[str, Any] = {"state": "hello", "questions": {"q": {"type": "choice"}}}
    for name, key in keys.items():
        (model,) = {name, f"schema:{name}"} & set(listed[1:])
        answered = await clients.plain.post("/v1/systemone", json=asked | {"model": model})
        assert set(answered.raise_for_status().json()["answers"]["q"]["probabilities"]) == {key, f"{key}2"}
    unlisted = await clients.plain.post("/v1/systemone", json=asked | {"model": "schema:bar"})
    assert unlisted.status_code == 404
