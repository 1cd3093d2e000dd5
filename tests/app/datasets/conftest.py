"""The API with two tenants, and a worker that does the jobs of one dataset when it is told to."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Response

from app.auth import service as auth
from app.auth.principal import Scope
from app.auth.service import KeyOrder
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.infra.storage import Storage
from app.infra.tables.jobs import Job, JobKind
from app.infra.tables.schemas import SchemaVersion
from app.jobs import runner
from app.jobs import service as jobs
from app.main import create_app
from app.schemas import service as schemas
from app.settings import Settings

DRAFT: dict[str, Any] = {
    "none_of_these": True,
    "categories": [
        {"key": "refund", "name": "Refund", "definition": "Wants money back."},
        {"key": "delivery", "name": "Delivery", "definition": "Asks where an order is."},
    ],
}
JSONL = {"Content-Type": "application/jsonl"}


class Product(NamedTuple):
    """client: with a key of one tenant. stranger: with a key of another. version: of the tenant's schema."""

    api: FastAPI
    settings: Settings
    database: Database
    scope: TenantScope
    key_id: UUID
    client: AsyncClient
    stranger: AsyncClient
    schema_id: UUID
    version: SchemaVersion

    @property
    def storage(self) -> Storage:
        storage: Storage = self.api.state.storage
        return storage

    async def dataset(self, name: str = "chats") -> str:
        made = await self.client.post("/v1/datasets", json={"name": name, "schema_id": str(self.schema_id)})
        assert made.status_code == 201, made.text
        identity: str = made.json()["id"]
        return identity

    async def put(self, dataset_id: str, content: Any, **headers: str) -> Response:
        """headers: with _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.put(
            f"/v1/datasets/{dataset_id}/content", content=content, headers=JSONL | named
        )

    async def get(self, path: str) -> Any:
        found = await self.client.get(f"/v1/{path}")
        assert found.status_code == 200, found.text
        return found.json()

    async def work(self, dataset_id: str) -> Job:
        """Do the job that the upload left."""
        async with transaction(self.database, self.scope, read_only=True) as session:
            job = await jobs.newest_of(session, self.scope, JobKind.validate_dataset, UUID(dataset_id))
        assert job is not None
        await asyncio.to_thread(runner.run_job, job.id, self.settings)
        async with transaction(self.database, self.scope, read_only=True) as session:
            return await jobs.get(session, self.scope, job.id)

    async def filled(self, *rows: Any) -> str:
        """A dataset made from these rows."""
        dataset_id = await self.dataset()
        sent = await self.put(dataset_id, jsonl(*rows))
        assert sent.status_code == 202 and sent.json()["complete"], sent.text
        await self.work(dataset_id)
        return dataset_id


@pytest.fixture
async def product(
    database: Database, database_url: str, scope: TenantScope, other_scope: TenantScope, tmp_path: Path
) -> AsyncIterator[Product]:
    settings = Settings(home=tmp_path / "home", database_url=database_url)
    async with transaction(database, scope) as session:
        order = KeyOrder("editor", [Scope.datasets_write, Scope.conversations_read])
        key = await auth.create(session, None, scope.tenant_id, order)
        schema = await schemas.create(session, scope, key.row.id, "orders", DRAFT)
        published = await schemas.publish(session, scope, key.row.id, schema.id)
    async with transaction(database, other_scope) as session:
        theirs = await auth.create(session, None, other_scope.tenant_id, KeyOrder("editor", [Scope.admin]))
    api = create_app(settings, database)
    async with (
        api.router.lifespan_context(api),
        client_of(api, key.text) as client,
        client_of(api, theirs.text) as stranger,
    ):
        yield Product(
            api, settings, database, scope, key.row.id, client, stranger, schema.id, published.version
        )


def client_of(api: FastAPI, key: str) -> AsyncClient:
    return AsyncClient(
        transport=ASGITransport(app=api, raise_app_exceptions=False),
        base_url="http://test",
        headers={"Authorization": f"Bearer {key}"},
    )


def row(identity: str, text: str, category: str | None = "refund", **more: Any) -> dict[str, Any]:
    return {"id": identity, "messages": [{"role": "customer", "text": text}], "category": category, **more}


def jsonl(*rows: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in rows)
