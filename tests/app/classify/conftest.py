from pathlib import Path

import pytest

from app.settings import Settings
from tests.app.classify.serving_contexts import Live, deployed, model_server, plug_in
from tests.callers import Callers
from tests.evaluation.fake_server import FakeServer


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """With one model server; nothing listens at its address."""
    return Settings(
        home=tmp_path / "home",
        database_url=database_url,
        storage_url=str(tmp_path / "storage"),
        vllm_urls=("http://127.0.0.1:9",),
    )


@pytest.fixture
async def server(callers: Callers) -> FakeServer:
    made = model_server()
    await plug_in(callers, made)
    return made


@pytest.fixture
async def live(callers: Callers) -> Live:
    return await deployed(callers)
