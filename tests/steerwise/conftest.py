"""The API over a real socket, with a tenant that has a live deployment and a model that is a plain function."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest

from app.auth import service
from app.auth.principal import Scope
from app.auth.service import KeyOrder
from app.infra.db.engine import open_database
from app.infra.db.session import transaction
from app.infra.tables.deployments import DeploymentState
from app.main import create_app
from app.settings import Settings
from evaluation.contract.mode import Mode
from tests.app.classify.serving_contexts import model_server
from tests.factories.rows import Story, deployment_of, save, story
from tests.servers import databases
from tests.servers.s3 import serving


class Place(NamedTuple):
    url: str
    key: str
    told: Story


@pytest.fixture
def mode() -> Mode:
    """Of the gate, and so of what is deployed."""
    return Mode.reasoned


@pytest.fixture
def place(tmp_path: Path, mode: Mode) -> Iterator[Place]:
    url = databases.sqlite_url(tmp_path)
    with serving(model_server()) as model:
        settings = Settings(
            home=tmp_path / "home",
            database_url=url,
            storage_url=str(tmp_path / "storage"),
            vllm_urls=(model,),
        )
        told, key = anyio.run(_fill, url, mode)
        with serving(create_app(settings)) as address:
            yield Place(address, key, told)


async def _fill(url: str, mode: Mode) -> tuple[Story, str]:
    database, told = open_database(url), story()
    told.tenant.keep_answers_days = 30
    told.schema.name = "shop"
    told.gate.mode = mode
    try:
        async with transaction(database) as session:
            await save(session, *told, deployment_of(told, state=DeploymentState.live))
            made = await service.create(session, None, told.tenant.id, KeyOrder("client", [Scope.admin]))
        return told, made.text
    finally:
        await database.engine.dispose()
