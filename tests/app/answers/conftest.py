from pathlib import Path

import pytest

from app.settings import Settings
from tests.app.answers.keeping import Keeping, started
from tests.callers import Callers


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
async def keeping(callers: Callers) -> Keeping:
    return await started(callers)
