"""Clients of the API under test: over ASGI, each with a key of its own."""

from contextlib import AsyncExitStack
from itertools import count

import httpx
from fastapi import FastAPI

from app.auth import service
from app.auth.principal import Scope
from app.auth.service import KeyOrder
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction


class Callers:
    def __init__(self, api: FastAPI, database: Database, until: AsyncExitStack):
        self.api, self.database, self._until = api, database, until
        self._numbers = count(1)

    async def anonymous(self) -> httpx.AsyncClient:
        return await self.with_key(None)

    async def platform(self) -> httpx.AsyncClient:
        """An admin of the platform."""
        return await self.with_key(await self.key_of(None, Scope.admin))

    async def of(self, scope: TenantScope, *scopes: Scope) -> httpx.AsyncClient:
        return await self.with_key(await self.key_of(scope, *scopes))

    async def with_key(self, key: str | None) -> httpx.AsyncClient:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        transport = httpx.ASGITransport(self.api)
        client = httpx.AsyncClient(transport=transport, base_url="http://steerwise.test", headers=headers)
        return await self._until.enter_async_context(client)

    async def key_of(self, scope: TenantScope | None, *scopes: Scope) -> str:
        order = KeyOrder(f"test {next(self._numbers)}", scopes)
        async with transaction(self.database) as session:
            made = await service.create(session, None, scope and scope.tenant_id, order)
        return made.text
