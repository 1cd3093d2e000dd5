"""An installation to be attacked: two tenants that have one of everything, and a copy of it for every slice.

It is made once, through the API as far as that goes; a model server that answers everything alike stands behind it.
"""

import asyncio
import logging
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import httpx
import structlog
import uvicorn
from fastapi import FastAPI

from app.auth import bootstrap
from app.auth.principal import Scope
from app.errors import ServingError
from app.http import server
from app.infra.db import migrate
from app.infra.db.engine import open_database
from app.infra.logging import configure
from app.local import recipes
from app.main import create_app
from app.serving.adapters import Adapter
from app.serving.base import STARTER, codes_for, find_base
from app.settings import Settings
from app.studies.model_server import model_server
from app.studies.untrained import install, write_adapter
from evaluation.contract.schema import Category, CategorySchema

MakeApi: TypeAlias = Callable[[Settings], FastAPI]
RANK = 8
ORIGIN = "http://steerwise.test"
_KEPT_DAYS = 30
_WAITS = 200  # of a twentieth of a second, until an answer is kept


class AttackedTenant(NamedTuple):
    """ids: what it has, by the names of parameters and fields that ask for it. secret: a word that stands in its
    definitions and in what its customers say, and nowhere else. admin_key: of an admin of it alone. adapter: which
    answers it, and nobody else.
    """

    secret: str
    admin_key: str
    ids: dict[str, str]
    adapter: Adapter

    def shown_in(self, text: str) -> list[str]:
        """What belongs to it and stands in a text: its word, and ids that are nobody else's."""
        own = [one for one in self.ids.values() if len(one) == 36]
        return [one for one in {self.secret, *own} if one in text]


class AttackedCopy(NamedTuple):
    """A copy of the installation. platform_key: of an admin of the platform."""

    settings: Settings
    platform_key: str
    tenants: tuple[AttackedTenant, AttackedTenant]


class Lab:
    """model_url: of a model server that always answers the first of `codes`. make_api: what is examined; another than
    the product's where the examination itself is tried.
    """

    def __init__(self, folder: Path, settings: Settings, model_url: str, make_api: MakeApi = create_app):
        self.folder, self.settings, self.make_api = folder, settings, make_api
        self._model_url = model_url
        self._made: AttackedCopy | None = None
        self._copies = 0

    def target(self, **changes: Any) -> AttackedCopy:
        """A fresh copy of the installation. changes: of its settings."""
        if self._made is None:
            self._made = self._make()
        self._copies += 1
        home = self.folder / f"copy-{self._copies}"
        shutil.copytree(self._made.settings.home, home)
        home.chmod(0o700)
        return self._made._replace(settings=settings_in(home, self._made.settings, **changes))

    def done_with(self, target: AttackedCopy) -> None:
        shutil.rmtree(target.settings.home, ignore_errors=True)

    def _make(self) -> AttackedCopy:
        home = self.folder / "installation"
        home.mkdir(mode=0o700, parents=True)
        settings = settings_in(home, self.settings, base=STARTER, vllm_urls=(self._model_url,))
        base, store = find_base(STARTER), self.folder / "adapters"
        adapters = [write_adapter(base, RANK, store, number) for number in range(2)]
        migrate.upgrade(settings.database_url)
        return asyncio.run(_fill(settings, adapters))


def settings_in(home: Path, settings: Settings, **changes: Any) -> Settings:
    where = {
        "home": home,
        "database_url": f"sqlite:///{home}/steerwise.db",
        "storage_url": str(home / "storage"),
        "redis_url": None,
        "platform_database_url": None,
    }
    return settings.model_copy(update=where | changes)


def codes() -> tuple[str, ...]:
    """Of whatever is asked here, of which the model server answers the first."""
    return codes_for(find_base(STARTER).folder, schema_with("word")).texts


@contextmanager
def lab(folder: Path, settings: Settings, make_api: MakeApi = create_app) -> Iterator[Lab]:
    """folder: there already, and empty. What the product logs goes to a file in it."""
    with (
        logging_to(folder / "log.jsonl", settings.log_level),
        model_server(codes(), latency_s=0) as answering,
    ):
        yield Lab(folder, settings, answering.url, make_api)


@contextmanager
def logging_to(file: Path, level: str) -> Iterator[None]:
    """The log of the product, which here is part of another program."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, old_level = root.handlers, root.level
    configure(level)
    with file.open("a") as stream:
        for handler in root.handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(stream)
        try:
            yield
        finally:
            structlog.configure(**before)
            root.handlers = handlers
            root.setLevel(old_level)


@asynccontextmanager
async def running(api: FastAPI) -> AsyncIterator["Clients"]:
    async with api.router.lifespan_context(api), AsyncExitStack() as until:
        yield Clients(api, until)


@contextmanager
def served(api: FastAPI, settings: Settings) -> Iterator[str]:
    """Its address, for clients that need a real one: with the product's own clocks and bounds on connections."""
    port = recipes.free_port()
    config = uvicorn.Config(api, host="127.0.0.1", port=port, log_config=None, **server.options(settings))
    running_server = uvicorn.Server(config)
    thread = threading.Thread(target=running_server.run, daemon=True)
    thread.start()
    while not running_server.started and thread.is_alive():
        time.sleep(0.01)
    if not running_server.started:
        raise ServingError("the API that is to be examined did not start")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running_server.should_exit = True
        thread.join()


class Clients:
    """Over ASGI. A client has one key, or none."""

    def __init__(self, api: FastAPI, until: AsyncExitStack):
        self.api, self._until = api, until
        self._of: dict[str | None, httpx.AsyncClient] = {}

    async def of(self, key: str | None) -> httpx.AsyncClient:
        if key not in self._of:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            transport = httpx.ASGITransport(self.api, raise_app_exceptions=False)
            client = httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers, timeout=60)
            self._of[key] = await self._until.enter_async_context(client)
        return self._of[key]


# ------------------------------------------------------------------------------------------------------ its content


async def _fill(settings: Settings, adapters: Sequence[Adapter]) -> AttackedCopy:
    database = open_database(settings.database_url)
    base = find_base(STARTER)
    try:
        platform_key = (await bootstrap.bootstrap(database)).text
        words = [f"zq{secrets.token_hex(6)}" for _ in range(2)]
        made = [
            await install(database, base, adapter, schema_with(word), f"tenant {number}")
            for number, (word, adapter) in enumerate(zip(words, adapters, strict=True), start=1)
        ]
    finally:
        await database.close()
    async with running(create_app(settings)) as clients:
        platform = await clients.of(platform_key)
        tenants = [
            await _furnish(clients, platform, one.scope.tenant_id, word, adapter)
            for one, word, adapter in zip(made, words, adapters, strict=True)
        ]
    return AttackedCopy(settings, platform_key, (tenants[0], tenants[1]))


def schema_with(word: str) -> CategorySchema:
    """A small one that holds a word which nobody else has."""
    return CategorySchema(
        name="support",
        none_of_these=True,
        categories=(
            Category(
                key="refund", name=f"Refund {word}", definition=f"The customer wants money back for {word}."
            ),
            Category(key="delivery", name="Delivery", definition="The customer asks where a parcel is."),
        ),
    )


async def _furnish(
    clients: Clients, platform: httpx.AsyncClient, tenant_id: UUID, word: str, adapter: Adapter
) -> AttackedTenant:
    """What `install` has left out, asked of the API."""
    there = {"X-Tenant": str(tenant_id)}
    made = await platform.post("/v1/api-keys", json={"name": "admin", "scopes": [Scope.admin]}, headers=there)
    key: str = good(made)["key"]
    client = await clients.of(key)

    async def first(path: str) -> dict[str, Any]:
        found: dict[str, Any] = good(await client.get(path))["items"][0]
        return found

    other = good(await client.post("/v1/api-keys", json={"name": "to be revoked", "scopes": []}))
    schema, dataset = await first("/v1/schemas"), await first("/v1/datasets")
    run, model, gate = await first("/v1/runs"), await first("/v1/model-versions"), await first("/v1/gates")
    deployment, version = (
        await first("/v1/deployments"),
        await first(f"/v1/schemas/{schema['id']}/versions"),
    )
    said = {"messages": [{"role": "customer", "text": f"Where is my {word}?"}], "category": "delivery"}
    conversations = f"/v1/datasets/{dataset['id']}/conversations"
    appended = good(await client.post(conversations, json={"id": f"c-{word}", **said}))
    for number in range(2):
        good(await client.post(conversations, json={"id": f"c{number}", **said}))
    of_both = {"schema_id": schema["id"], "dataset_id": dataset["id"]}
    trigger = good(
        await client.post("/v1/triggers", json=of_both | {"name": "by hand", "rule": {"kind": "by_hand"}})
    )
    answer_id = await _kept_answer(client, str(tenant_id), schema["id"], word)
    ids = {
        "tenant_id": str(tenant_id),
        "schema_id": schema["id"],
        "schema": schema["id"],
        "schema_version_id": version["id"],
        "number": str(version["number"]),
        "dataset_id": dataset["id"],
        "conversation_id": appended["id"],
        "run_id": run["id"],
        "kind": "sft",
        "gate_id": gate["id"],
        "model_version_id": model["id"],
        "deployment_id": deployment["id"],
        "key_id": other["id"],
        "answer_id": answer_id,
        "trigger_id": trigger["id"],
    }
    return AttackedTenant(word, key, ids, adapter)


async def _kept_answer(client: httpx.AsyncClient, tenant_id: str, schema_id: str, word: str) -> str:
    """Written behind the answer, so it is waited for."""
    good(await client.patch(f"/v1/tenants/{tenant_id}", json={"keep_answers_days": _KEPT_DAYS}))
    good(await client.post("/v1/classify", json={"schema_id": schema_id, "text": f"Where is my {word}?"}))
    for _ in range(_WAITS):
        if found := good(await client.get("/v1/answers"))["items"]:
            return str(found[0]["id"])
        await asyncio.sleep(0.05)
    raise ServingError("the answer that was to be kept is not there; the installation cannot be made")


def good(answer: httpx.Response) -> dict[str, Any]:
    """What it holds. Raises: ServingError where it is none that was asked for."""
    if not answer.is_success:
        raise ServingError(
            f"{answer.request.method} {answer.request.url.path} was answered {answer.status_code}",
            [answer.text[:500]],
        )
    found: dict[str, Any] = answer.json() if answer.content else {}
    return found
