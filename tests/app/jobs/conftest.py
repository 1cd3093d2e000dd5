"""Jobs by themselves: no slice has work or a say in how they end, unless a test gives it one."""

from collections.abc import Iterator
from typing import Any

import pytest

from app.infra.db.engine import Database
from app.infra.db.scope import TenantScope
from app.jobs.ends import ON_END
from app.jobs.handlers import HANDLERS, SWEEPS
from tests.app.jobs import factory
from tests.app.jobs.factory import Made


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    """Slices register as they are imported, which happens once: what they registered has to be there again after."""
    registries: tuple[dict[Any, Any], ...] = (HANDLERS, ON_END, SWEEPS)
    before = [dict(registry) for registry in registries]
    for registry in registries:
        registry.clear()
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


@pytest.fixture
async def made(database: Database, scope: TenantScope) -> Made:
    return await factory.make_run(database, scope)
