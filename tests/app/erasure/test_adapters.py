"""An adapter whose model is gone leaves the machine once no model server has it: without it one would end."""

from pathlib import Path

import pytest

from app.erasure import tidying
from app.errors import AppError
from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.infra.db.session import transaction
from app.serving import adapters
from app.settings import Settings
from tests.factories.rows import save, story
from tests.model_server import settings, vllm, vllm_url
from tests.servers.vllm import FakeVllm

__all__ = ["settings", "vllm", "vllm_url"]
pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_adapter_stays_as_long_as_a_model_server_may_have_it(
    database: Database, settings: Settings, scope: TenantScope, vllm: FakeVllm
) -> None:
    told, gone = story(), "b" * 64
    async with transaction(database) as session:
        await save(session, *told)
    folder: Path = settings.home / "adapters"
    for name in (told.model.adapter_sha256, gone):
        (folder / name).mkdir(parents=True)
    vllm.adapters[gone] = str(folder / gone)
    await tidying.tidy(database, settings)
    assert adapters.placed(folder) == {told.model.adapter_sha256, gone}
    vllm.adapters.clear()  # it was started again
    vllm.status = 503  # and does not answer yet: it may have any of them
    with pytest.raises(AppError):
        await tidying.tidy(database, settings)
    assert gone in adapters.placed(folder)
    vllm.status = None
    await tidying.tidy(database, settings)
    assert adapters.placed(folder) == {told.model.adapter_sha256}
