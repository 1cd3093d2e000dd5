"""A tenant's bucket: shared through Redis, or kept by the process where Redis is away."""

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.errors import TooManyRequests
from app.http.limits import OwnBuckets, RequestLimits
from app.infra.db.scope import TenantScope
from app.settings import Settings

pytestmark = pytest.mark.anyio
ONE, OTHER = TenantScope(uuid4()), TenantScope(uuid4())


def limits(tmp_path: Path, redis_url: str | None, **changes: Any) -> RequestLimits:
    values = {"tenant_rate_per_s": 0.01, "tenant_burst": 256} | changes
    return RequestLimits(Settings(home=tmp_path, redis_url=redis_url, **values))


async def test_processes_share_a_tenants_bucket_through_redis(tmp_path: Path, redis_url: str) -> None:
    first, second = limits(tmp_path, redis_url), limits(tmp_path, redis_url)
    await first.take(ONE, 200)
    with pytest.raises(TooManyRequests) as refused:
        await second.take(ONE, 57)
    assert int(refused.value.headers["Retry-After"]) == pytest.approx(100, abs=2)
    await second.take(ONE, 56)
    await second.take(OTHER, 256)
    await first.close()
    await second.close()


async def test_a_bucket_fills_again_at_its_rate(tmp_path: Path, redis_url: str) -> None:
    for url in (redis_url, None):
        filling = limits(tmp_path, url, tenant_rate_per_s=100.0)
        await filling.take(ONE, 256)
        with pytest.raises(TooManyRequests):
            await filling.take(ONE, 256)
        deadline = time.monotonic() + 30
        while True:
            try:
                await filling.take(ONE, 20)
                break
            except TooManyRequests:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        await filling.close()


async def test_without_redis_a_process_keeps_its_own_and_is_not_held_up(tmp_path: Path) -> None:
    alone = limits(tmp_path, "redis://127.0.0.1:9/0")
    await alone.take(ONE, 256)
    before = alone._away_until
    with pytest.raises(TooManyRequests):
        await alone.take(ONE, 1)
    assert alone._away_until == before > time.monotonic() - 2  # it was not asked a second time
    await alone.take(OTHER, 1)
    await alone.close()


def test_a_bucket_that_is_full_again_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.http.limits._MANY_BUCKETS", 2)
    buckets = OwnBuckets(rate_per_s=1e9, burst=10)
    for _ in range(5):
        assert buckets.take(uuid4(), 10) == 0
        time.sleep(0.001)
    assert len(buckets._held) <= 3
