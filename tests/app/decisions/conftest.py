from pathlib import Path

import pytest

from app.infra.tables.tenants import Ungated
from app.serving.base import STARTER, find_base
from app.settings import Settings
from evaluation.inference.predictor import load_codes
from tests.app.classify.serving_contexts import Live, deployed, plug_in, set_tenant
from tests.app.decisions.clients import Clients, connected
from tests.app.decisions.models import by_words
from tests.callers import Callers
from tests.evaluation.fake_server import FakeServer


@pytest.fixture
def settings(tmp_path: Path, sqlite_url: str) -> Settings:
    """With one model server; nothing listens at its address. What is stored is classify's affair, and tested there."""
    return Settings(
        home=tmp_path / "home",
        database_url=sqlite_url,
        storage_url=str(tmp_path / "storage"),
        vllm_urls=("http://127.0.0.1:9",),
    )


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


@pytest.fixture
async def server(callers: Callers) -> FakeServer:
    made = FakeServer(by_words, codes=load_codes(find_base(STARTER).folder, 102))
    await plug_in(callers, made)
    return made


@pytest.fixture
async def live(callers: Callers) -> Live:
    """Of a tenant that lets the base as it stands answer the API."""
    made = await deployed(callers)
    await set_tenant(callers, made, ungated=Ungated.api)
    return made


@pytest.fixture
async def clients(callers: Callers, live: Live, server: FakeServer) -> Clients:
    return await connected(callers, live)
