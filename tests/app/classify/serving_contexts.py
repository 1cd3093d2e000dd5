"""A tenant with a live deployment, and a model server that is a plain function, behind the service's real client."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx

from app.auth.principal import Scope
from app.infra.db.engine import Database
from app.infra.db.session import transaction
from app.infra.tables.deployments import DeploymentState
from app.infra.tables.schemas import SchemaVersion
from app.infra.tables.tenants import Tenant
from app.serving.base import STARTER, find_base
from app.serving.replica import Replica
from evaluation.inference.predictor import load_codes
from tests.callers import Callers
from tests.evaluation.fake_server import Asked, FakeServer, Reply, says
from tests.factories.rows import CONTENT, Story, deployment_of, save, sha256, story

CODES = load_codes(find_base(STARTER).folder, 4)
TEXT = "Where is my parcel? I ordered it a week ago."
SAID = 'They write "Where is my parcel", so "the customer asks where a parcel is" decides.'


def answers(asked: Asked) -> Reply:
    """The category whose definition shares most words with what the customer says, as a model should."""
    words = set(asked.customer.lower().split())
    best = max(asked.options, key=lambda option: len(words & set(option.definition.lower().split())))
    return says(best.code, SAID)


def model_server(
    model: Callable[[Asked], Reply] = answers,
    *,
    before: Callable[[], Awaitable[None]] | None = None,
    **options: Any,
) -> FakeServer:
    return FakeServer(model, codes=CODES, before=before, **options)


class Live(NamedTuple):
    """client: with a key that may classify and nothing else."""

    told: Story
    deployment_id: str
    client: httpx.AsyncClient

    @property
    def schema_id(self) -> str:
        return str(self.told.schema.id)

    def question(self, text: str = TEXT) -> dict[str, Any]:
        return {"schema_id": self.schema_id, "text": text}


async def deployed(callers: Callers) -> Live:
    told = story()
    made = deployment_of(told, state=DeploymentState.live)
    async with transaction(callers.database) as session:
        await save(session, *told, made)
    return Live(told, str(made.id), await callers.of(told.scope, Scope.classify))


async def asked(live: Live, **changes: Any) -> httpx.Response:
    return await live.client.post("/v1/classify", json=live.question() | changes)


async def set_tenant(callers: Callers, live: Live, **changes: Any) -> None:
    async with transaction(callers.database, live.told.scope) as session:
        tenant = await session.get_one(Tenant, live.told.tenant.id)
        for name, value in changes.items():
            setattr(tenant, name, value)


async def publish(database: Database, told: Story, **changes: Any) -> SchemaVersion:
    """The next version, beside the API."""
    version = SchemaVersion(
        tenant_id=told.tenant.id,
        schema_id=told.schema.id,
        number=2,
        content=CONTENT | changes,
        sha256=sha256(),
    )
    async with transaction(database) as session:
        await save(session, version)
    return version


async def plug_in(callers: Callers, server: FakeServer) -> None:
    """The service's only model server is this one."""
    await replug(callers, httpx.ASGITransport(server))


async def replug(callers: Callers, transport: httpx.AsyncBaseTransport) -> None:
    (replica,) = callers.api.state.serving_context.replicas.all
    await _connect(replica, transport)


async def plug_in_one(replica: Replica, server: FakeServer) -> None:
    await _connect(replica, httpx.ASGITransport(server))


async def _connect(replica: Replica, transport: httpx.AsyncBaseTransport) -> None:
    await replica.client.aclose()
    replica.client = httpx.AsyncClient(transport=transport, base_url="http://model")


@asynccontextmanager
async def hanging_up(
    callers: Callers, path: str, headers: httpx.Headers, body: bytes, when: Callable[[], Awaitable[None]]
) -> AsyncIterator[list[dict[str, Any]]]:
    """A request whose client goes away as soon as `when` is over; yields what was sent to it until the end."""
    sent: list[dict[str, Any]] = []
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await when()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(name.lower(), value) for name, value in headers.raw],
        "client": ("127.0.0.1", 1),
        "server": ("steerwise.test", 80),
        "state": {},
    }
    await callers.api(scope, receive, send)
    yield sent
