"""What belongs to another tenant is not there. Asked of every endpoint in the document, by walking it."""

from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select

from app.auth.principal import Scope
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.tables.all import METADATA
from app.infra.tables.auth import ApiKey
from app.infra.tables.deployments import DeploymentState
from tests.app.http.test_openapi import Operation, operations
from tests.callers import Callers
from tests.factories.rows import deployment_of, ids_of, save, story

pytestmark = pytest.mark.anyio
# Answered to everyone who has the key for it, and told apart by it: see tests/app/tenants.
OF_THE_PLATFORM = {"get_liveness", "get_readiness", "get_metrics", "create_tenant", "list_tenants"}
# There in the storage only, which the rows of this test have not.
WITHOUT_FILES = {
    "get_gate_report", "get_gate_page", "get_run_stage_log", "get_dataset_upload", "get_dataset_rejects",
}  # fmt: skip


@pytest.mark.seconds
async def test_what_belongs_to_another_tenant_is_not_there(callers: Callers, database: Database) -> None:
    told = story()
    live = deployment_of(told, state=DeploymentState.live)
    async with transaction(database) as session:
        await save(session, *told, live)
    theirs = TenantScope(told.tenant.id)
    owner = await callers.of(theirs, Scope.admin)
    async with transaction(database, theirs, read_only=True) as session:
        key_id = await session.scalar(select(ApiKey.id).where(ApiKey.tenant_id == theirs.tenant_id))
    assert key_id is not None
    ids = ids_of(told, live, key_id)
    stranger = await callers.of(await _another(database), Scope.admin)
    document = callers.api.openapi()
    asked = [o for o in operations(document) if o.body["operationId"] not in OF_THE_PLATFORM]
    before = await _rows_of(database, theirs)
    for operation in asked:
        answer = await _send(stranger, document, operation, ids)
        named = _names(document, operation, ids)
        assert not named or answer.status_code in (403, 404), (operation.name, answer.text)
        shown = [str(one) for one in ids.values() if len(str(one)) == 36 and str(one) in answer.text]
        assert shown == [], (operation.name, answer.text)
    assert await _rows_of(database, theirs) == before

    # The same requests find what they name when its owner sends them.
    for operation in sorted(asked, key=lambda one: one.method == "delete"):
        if operation.body["operationId"] not in WITHOUT_FILES | {"get_tenant", "change_tenant"}:
            answer = await _send(owner, document, operation, ids)
            assert answer.status_code != 404, (operation.name, answer.text)


def _names(document: dict[str, Any], operation: Operation, ids: dict[str, Any]) -> bool:
    """Whether the request names something by its id."""
    return "{" in operation.path or any(name in ids for name in _body(document, operation, ids) or ())


async def _send(
    client: httpx.AsyncClient, document: dict[str, Any], operation: Operation, ids: dict[str, Any]
) -> httpx.Response:
    query = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
    asked = {p["name"] for p in operation.body.get("parameters", []) if p["in"] == "query" and p["required"]}
    if operation.body["operationId"] == "diff_schema_versions":
        query = {"from": "1", "to": "1"}
    headers = {"If-Match": "*", "Idempotency-Key": str(uuid4())}
    file: dict[str, Any] = {"json": _body(document, operation, ids)}
    if operation.body["operationId"] == "put_dataset_content":
        headers["Content-Type"] = "text/csv"
        file = {"content": b"text,category\n"}
    return await client.request(
        operation.method,
        operation.path.format(**ids),
        params={name: query[name] for name in asked},
        headers=headers,
        **file,
    )


def _body(document: dict[str, Any], operation: Operation, ids: dict[str, Any]) -> dict[str, Any] | None:
    """Ids, a text where there may be one, and what is required as in its example. A schema is named once, by its id."""
    content = operation.body.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return None
    if "$ref" not in content["schema"]:  # a file, which may be JSON
        return None
    schema = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]
    fields = schema.get("properties", {})
    return {
        name: str(ids[name]) if name in ids else fields[name]["examples"][0]
        for name in fields
        if (name in ids and not (name == "schema" and "schema_id" in fields))
        or name == "text"
        or name in schema.get("required", ())
    }


async def _another(database: Database) -> TenantScope:
    other = story()
    async with transaction(database) as session:
        await save(session, *other)
    return TenantScope(other.tenant.id)


async def _rows_of(database: Database, scope: TenantScope) -> dict[str, list[str]]:
    async with transaction(database, scope, read_only=True) as session:
        return {
            table.name: sorted(
                map(str, await session.execute(select(table).where(table.c.tenant_id == scope.tenant_id)))
            )
            for table in METADATA.sorted_tables
            if "tenant_id" in table.columns
        }
